//! Input files of any of three kinds, told apart by their first bytes and never by name.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use noodles::bgzf;

/// Size of the read buffers, bytes.
const BUFFER: usize = 1 << 18;
/// Length of the part of a BGZF header that tells it from any other gzip, bytes.
const MAGIC: usize = 14;
/// The empty block that ends every BGZF file (SAM specification, section 4.1.2).
const BGZF_END: [u8; 28] = [
    0x1f, 0x8b, 0x08, 0x04, 0, 0, 0, 0, 0, 0xff, 0x06, 0, 0x42, 0x43, 0x02, 0, 0x1b, 0, 0x03, 0, 0,
    0, 0, 0, 0, 0, 0, 0,
];

/// Opens a plain, gzip (any number of members) or BGZF file for reading; `-` is standard
/// input.
///
/// # Errors
/// When the file cannot be opened or read. Every error, also a later one while reading,
/// names the file; truncated and damaged compressed data are said to be so.
pub fn open_input(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let name = input_name(path);
    let named = |error| with_name(&name, error);
    if path == Path::new("-") {
        return decode(io::stdin(), &name);
    }
    decode(File::open(path).map_err(named)?, &name)
}

/// How messages call the file: its path, or `standard input` for `-`.
pub fn input_name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Wraps `raw` in the decoder that its first bytes ask for.
fn decode(raw: impl Read + Send + 'static, name: &str) -> io::Result<Box<dyn BufRead + Send>> {
    let mut raw = BufReader::with_capacity(BUFFER, raw);
    let mut head = Vec::with_capacity(MAGIC);
    raw.by_ref()
        .take(MAGIC as u64)
        .read_to_end(&mut head)
        .map_err(|error| with_name(name, error))?;
    let is_gzip = head.starts_with(&BGZF_END[..2]);
    let is_bgzf = head.len() == MAGIC && head[12..] == BGZF_END[12..14] && head[3] & 4 != 0;
    let whole = Cursor::new(head).chain(raw);
    let name = name.to_owned();
    Ok(match (is_gzip, is_bgzf) {
        (true, true) => Box::new(Named {
            inner: bgzf::io::Reader::new(EndMarked::new(whole)),
            name,
            compressed: true,
        }),
        (true, false) => Box::new(Named {
            inner: BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole)),
            name,
            compressed: true,
        }),
        (false, _) => Box::new(Named {
            inner: whole,
            name,
            compressed: false,
        }),
    })
}

fn with_name(name: &str, error: io::Error) -> io::Error {
    let reason = crate::system::cannot_read(&error);
    io::Error::new(error.kind(), format!("{name}: {reason}"))
}

/// A reader whose errors name its file.
struct Named<R> {
    inner: R,
    name: String,
    compressed: bool,
}

impl<R> Named<R> {
    fn explain(name: &str, compressed: bool, error: io::Error) -> io::Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match error.kind() {
            UnexpectedEof | InvalidData | InvalidInput if compressed => io::Error::new(
                InvalidData,
                format!(
                    "{name}: truncated or damaged gzip data ({error}); copy or compress the file again"
                ),
            ),
            _ => with_name(name, error),
        }
    }
}

impl<R: BufRead> Read for Named<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner
            .read(buffer)
            .map_err(|error| Self::explain(&self.name, self.compressed, error))
    }
}

impl<R: BufRead> BufRead for Named<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner
            .fill_buf()
            .map_err(|error| Self::explain(&self.name, self.compressed, error))
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

/// Passes bytes through and, at their end, insists that the last were the BGZF end block.
/// Without it a file cut between two blocks would look whole.
struct EndMarked<R> {
    inner: R,
    last: Vec<u8>,
}

impl<R> EndMarked<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            last: Vec::new(),
        }
    }
}

impl<R: Read> Read for EndMarked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() && self.last != BGZF_END {
            // Not `UnexpectedEof`: the block reader takes that for a regular end.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the data end without the BGZF end-of-file block",
            ));
        }
        let keep = BGZF_END.len();
        self.last
            .extend_from_slice(&buffer[count.saturating_sub(keep)..count]);
        self.last.drain(..self.last.len().saturating_sub(keep));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn bgzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = bgzf::io::Writer::new(Vec::new());
        for part in data.chunks(1000) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        (0..4000u32)
            .flat_map(|i| format!("{i}\n").into_bytes())
            .collect()
    }

    fn read(data: &[u8]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        std::fs::write(&path, data).unwrap();
        let mut out = Vec::new();
        open_input(&path)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn three_kinds_read_alike() {
        let text = text();
        assert_eq!(read(&text).unwrap(), text);
        assert_eq!(read(&gzip(&text)).unwrap(), text);
        assert_eq!(read(&bgzip(&text)).unwrap(), text);
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"A").unwrap(), b"A");
    }

    #[test]
    fn members_follow_one_another() {
        let joined = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(&joined).unwrap(), b"one two");
        let joined = [bgzip(b"one "), bgzip(b"two")].concat();
        assert_eq!(read(&joined).unwrap(), b"one two");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let text = text();
        for whole in [gzip(&text), bgzip(&text)] {
            for cut in (2..whole.len())
                .rev()
                .step_by(7)
                .chain([whole.len() - 1, 17, 18])
            {
                let message = read(&whole[..cut]).unwrap_err().to_string();
                assert!(message.contains("truncated"), "{cut}: {message}");
                assert!(message.contains("input: "), "{message}");
            }
        }
    }

    #[test]
    fn a_bgzf_file_cut_between_blocks_is_an_error() {
        let whole = bgzip(&text());
        let message = read(&whole[..whole.len() - 28]).unwrap_err().to_string();
        assert!(message.contains("end-of-file block"), "{message}");
    }

    #[test]
    fn damage_is_an_error() {
        let mut damaged = gzip(&text());
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x55;
        assert!(read(&damaged).is_err());
    }

    #[test]
    fn opening_errors_name_the_file() {
        let missing = PathBuf::from("no/such/file.fna");
        let error = open_input(&missing).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("no/such/file.fna: "));
        let folder = tempfile::tempdir().unwrap();
        let error = open_input(folder.path()).err().unwrap();
        assert!(error.to_string().contains("irectory"), "{error}");
    }
}
