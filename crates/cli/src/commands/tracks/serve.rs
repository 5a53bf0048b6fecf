//! `--serve`: the folder and local copies of browsers on the loopback address.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use cistron_tracks::serve::{Mount, Server};

use crate::output;
use crate::stop;

/// Local copies of browsers.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Folder, and whether it is the whole application rather than the npm package.
    jbrowse: Option<(PathBuf, bool)>,
    igv: Option<PathBuf>,
}

impl Copies {
    /// Finds the files that a page loads.
    pub fn find(jbrowse: Option<&Path>, igv: Option<&Path>) -> anyhow::Result<Self> {
        let holder = |folder: &Path, file: &str| {
            let inside = [folder.join("dist"), folder.to_owned()];
            inside
                .into_iter()
                .find(|folder| folder.join(file).is_file())
        };
        let jbrowse = jbrowse.map(|folder| {
            if let Some(found) = holder(folder, "react-app.umd.production.min.js") {
                return Ok((found, false));
            }
            if folder.join("index.html").is_file() && folder.join("static").is_dir() {
                return Ok((folder.to_owned(), true));
            }
            bail!(
                "--jbrowse {}: holds neither the npm package @jbrowse/react-app2 nor JBrowse Web; \
                 get one with `npm install @jbrowse/react-app2`, it lies in \
                 node_modules/@jbrowse/react-app2",
                folder.display()
            )
        });
        let igv = igv.map(|folder| {
            holder(folder, "igv.min.js").with_context(|| {
                format!(
                    "--igv {}: holds no igv.min.js; get it with `npm install igv`, it lies in \
                     node_modules/igv",
                    folder.display()
                )
            })
        });
        Ok(Self {
            jbrowse: jbrowse.transpose()?,
            igv: igv.transpose()?,
        })
    }

    /// Mounts for a folder of tracks and, of several genomes, for each of its folders.
    fn mounts(&self, out: &Path, genomes: &[String]) -> Vec<Mount> {
        let mut mounts = vec![Mount {
            path: "/".into(),
            folder: out.to_owned(),
        }];
        let bases = genomes
            .iter()
            .map(|name| format!("/{name}/"))
            .chain(["/".to_owned()]);
        for base in bases {
            let copies = [
                ("jbrowse", self.jbrowse.as_ref().map(|(folder, _)| folder)),
                ("igv", self.igv.as_ref()),
            ];
            for (name, folder) in copies {
                mounts.extend(folder.map(|folder| Mount {
                    path: format!("{base}{name}/"),
                    folder: folder.clone(),
                }));
            }
        }
        mounts
    }

    /// The page to begin with, for a folder with tracks of its own.
    fn page(&self) -> &'static str {
        match (&self.jbrowse, &self.igv) {
            (Some((_, true)), _) => "jbrowse/?config=../config.json",
            (Some((_, false)), _) => "jbrowse.html",
            (None, Some(_)) => "igv.html",
            (None, None) => "",
        }
    }
}

/// Serves `out` until the run is asked to stop.
pub(super) fn run(out: &Path, copies: &Copies, port: u16, open: bool) -> anyhow::Result<()> {
    let genomes: Vec<String> = std::fs::read_dir(out)
        .with_context(|| out.display().to_string())?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("config.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let own = out.join("config.json").is_file();
    if !own && genomes.is_empty() {
        bail!(
            "--out {}: holds no config.json of JBrowse 2; write tracks there with --fasta",
            out.display()
        );
    }
    let server = Server::start(copies.mounts(out, &genomes), port)
        .with_context(|| format!("--port {port}: cannot be listened on; name another"))?;
    let page = if own { copies.page() } else { "" };
    let address = format!("http://{}/{page}", server.address());
    tracing::info!("{}: served on this machine until Ctrl-C", out.display());
    if copies.jbrowse.is_none() && copies.igv.is_none() {
        tracing::info!("for a genome browser give --jbrowse or --igv; report.html needs none");
    }
    output::print(&format!("{address}\n"))?;
    if open {
        open_browser(&address);
    }
    let stopped = stop::flag();
    while !stopped.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn open_browser(address: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    if let Err(error) = std::process::Command::new(program).arg(address).spawn() {
        tracing::warn!("{program}: {error}; open {address} in a browser");
    }
}
