//! A web server for a folder of tracks on this machine alone, with range requests.
//!
//! Browsers read parts of bigWig, BGZF and FASTA files, which a page opened from the disk may
//! not. The server listens on the loopback address and answers requests for that host only, so
//! that no page of another site can reach it through a name that points here.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tower_http::services::ServeDir;

/// A folder under a path of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `/` or `/name/`.
    pub path: String,
    /// What lies there.
    pub folder: PathBuf,
}

/// A running server; it stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Serves `mounts`, the longest path that fits first, on `port` of 127.0.0.1; on a free one
    /// when it is 0.
    ///
    /// # Errors
    /// The port is taken, or threads cannot be started.
    pub fn start(mounts: Vec<Mount>, port: u16) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("serve")
            .enable_all()
            .build()?;
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)))?;
        let address = listener.local_addr()?;
        let mounts = Arc::new(mounts);
        runtime.spawn(async move {
            // A connection that cannot be taken is the client's loss.
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let mounts = Arc::clone(&mounts);
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(Arc::clone(&mounts), request));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    let _ = connection.await;
                });
            }
        });
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Body = Either<tower_http::services::fs::ServeFileSystemResponseBody, String>;

async fn answer(
    mounts: Arc<Vec<Mount>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let plain = |status: StatusCode, text: &str| {
        let mut response = Response::new(Either::Right(format!("{text}\n")));
        *response.status_mut() = status;
        response
    };
    if !is_local(&request) {
        return Ok(plain(
            StatusCode::FORBIDDEN,
            "this server answers 127.0.0.1 and localhost",
        ));
    }
    let Some((folder, rest)) = find(&mounts, request.uri().path()) else {
        return Ok(plain(StatusCode::NOT_FOUND, "not found"));
    };
    let Ok(uri) = rest.parse::<Uri>() else {
        return Ok(plain(StatusCode::BAD_REQUEST, "not a path"));
    };
    let (mut parts, body) = request.into_parts();
    parts.uri = uri;
    match ServeDir::new(folder)
        .try_call(Request::from_parts(parts, body))
        .await
    {
        Ok(mut response) => {
            // What lies in the folder may be made anew between two visits.
            let value = header::HeaderValue::from_static("no-cache");
            response.headers_mut().insert(header::CACHE_CONTROL, value);
            Ok(response.map(Either::Left))
        }
        Err(error) => Ok(plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
    }
}

/// Whether the request names this host.
fn is_local<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(header::HOST);
    let host = host
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

/// The folder for a path, and the path within it.
fn find<'a>(mounts: &'a [Mount], path: &str) -> Option<(&'a Path, String)> {
    let fits = mounts.iter().filter(|mount| path.starts_with(&mount.path));
    let mount = fits.max_by_key(|mount| mount.path.len())?;
    Some((&mount.folder, format!("/{}", &path[mount.path.len()..])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    fn get(server: &Server, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn ranges_mounts_and_strangers() {
        let (tracks, app) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(tracks.path().join("x.bw"), "0123456789").unwrap();
        std::fs::write(app.path().join("app.js"), "code").unwrap();
        let mount = |path: &str, folder: &Path| Mount {
            path: path.to_owned(),
            folder: folder.to_owned(),
        };
        let mounts = vec![mount("/", tracks.path()), mount("/app/", app.path())];
        let server = Server::start(mounts, 0).unwrap();
        assert!(server.address().ip().is_loopback());
        let host = "Host: localhost:80\r\n";
        let part = get(&server, "/x.bw", &format!("{host}Range: bytes=2-4\r\n"));
        assert!(part.starts_with("HTTP/1.1 206"), "{part}");
        assert!(
            part.to_lowercase().contains("content-range: bytes 2-4/10"),
            "{part}"
        );
        assert!(part.ends_with("\r\n\r\n234"), "{part}");
        let whole = get(&server, "/app/app.js?x=1", "Host: 127.0.0.1\r\n");
        assert!(
            whole.starts_with("HTTP/1.1 200") && whole.ends_with("code"),
            "{whole}"
        );
        assert!(get(&server, "/none", host).starts_with("HTTP/1.1 404"));
        assert!(get(&server, "/../Cargo.toml", host).starts_with("HTTP/1.1 404"));
        let stranger = get(&server, "/x.bw", "Host: evil.example\r\n");
        assert!(stranger.starts_with("HTTP/1.1 403"), "{stranger}");
        let past = get(&server, "/x.bw", &format!("{host}Range: bytes=20-30\r\n"));
        assert!(past.starts_with("HTTP/1.1 416"), "{past}");
    }
}
