//! The values of all contigs in a temporary file, so that they can be read again in
//! another order than they came.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::runs::{Run, Runs};

/// The bits that stand for a base without value; pushed values are finite.
const NO_VALUE: f32 = f32::NAN;

/// Four bytes a base, contig after contig. The file has no name and vanishes with this.
pub(super) struct Spool {
    file: BufWriter<File>,
}

impl Spool {
    /// An empty spool on the disk that holds `folder`.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 16, tempfile::tempfile_in(folder)?);
        Ok(Self { file })
    }

    /// Appends values.
    pub fn push(&mut self, values: &[f32]) -> io::Result<()> {
        values
            .iter()
            .try_for_each(|value| self.file.write_all(&value.to_le_bytes()))
    }

    /// Appends bases without value.
    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        (0..count).try_for_each(|_| self.push(&[NO_VALUE]))
    }

    /// Ends the writing.
    pub fn into_file(self) -> io::Result<File> {
        self.file.into_inner().map_err(|error| error.into_error())
    }
}

/// Runs of equal values among the `length` bases whose first is the `first`-th of the
/// spool `file`.
pub(super) fn runs(
    file: &File,
    first: u64,
    length: u64,
) -> io::Result<impl Iterator<Item = io::Result<Run>> + Send + use<>> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(4 * first))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut runs = Runs::default();
    let mut left = length;
    Ok(std::iter::from_fn(move || {
        while left > 0 {
            left -= 1;
            let mut bytes = [0; 4];
            if let Err(error) = reader.read_exact(&mut bytes) {
                left = 0;
                return Some(Err(error));
            }
            let value = Some(f32::from_le_bytes(bytes)).filter(|value| !value.is_nan());
            if let Some(run) = runs.push(value) {
                return Some(Ok(run));
            }
        }
        runs.finish().map(Ok)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contigs_are_read_in_any_order() {
        let mut spool = Spool::create(Path::new(".")).unwrap();
        spool.push(&[1.0, 1.0]).unwrap();
        spool.skip(2).unwrap();
        spool.push(&[3.0]).unwrap();
        let file = spool.into_file().unwrap();
        let read = |first, length| -> Vec<(u64, u64, f32)> {
            runs(&file, first, length)
                .unwrap()
                .map(|run| run.map(|r| (r.start, r.end, r.value)).unwrap())
                .collect()
        };
        assert_eq!(read(3, 2), [(1, 2, 3.0)]);
        assert_eq!(read(0, 3), [(0, 2, 1.0)]);
        assert_eq!(read(2, 2), []);
        assert_eq!(read(0, 0), []);
        assert!(runs(&file, 4, 2).unwrap().any(|run| run.is_err()));
    }
}
