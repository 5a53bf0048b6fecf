//! bigWig: one value a base, indexed and compressed, with zoom levels.
//!
//! * Values are stored as `f32`, exactly; runs of equal values become one entry.
//! * The file lists its contigs sorted by the bytes of their names, as the format wants,
//!   whatever the order in which they come. The values wait for that in a temporary file of
//!   four bytes a base in the folder of the output.
//! * A contig without any value (of no length, or skipped) is not listed.
//! * Zoom levels hold means over 160, 640, ... bases, no wider than the longest contig;
//!   they are held in memory (about a fifth of a byte for each base) until the end.
//!
//! Oracle: `pyBigWig` reads back the same contigs, lengths and values.

mod source;
mod spool;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use bigtools::{BBIProcessError, BigWigWrite};
use tokio::runtime::Runtime;

use self::source::{Entry, Source};
use self::spool::Spool;
use crate::atomic::{AtomicFile, folder_of};
use crate::contig::{Cursor, Limits};
use crate::runs::require_finite;
use crate::sink::{Outcome, Sink};
use crate::{ContigSize, TrackError};

const LIMITS: Limits = Limits {
    format: "bigWig",
    contigs: u16::MAX as usize,
    length: u32::MAX as u64,
};

/// Writes a bigWig, contig by contig.
///
/// ```
/// use cistron_tracks::{ContigSize, bigwig};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("boundary.bw");
/// let contigs = [ContigSize::new("chr", 4), ContigSize::new("plasmid", 1)];
/// let mut writer = bigwig::Writer::create(&path, &contigs)?;
/// writer.push("chr", &[1.0, 0.25])?;
/// writer.push("chr", &[0.25, 0.5])?;
/// writer.push("plasmid", &[1.0])?;
/// writer.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    output: AtomicFile,
    cursor: Cursor,
    spool: Spool,
}

impl Writer {
    /// Opens the track at `path`; `contigs` in the order in which their values will come.
    ///
    /// # Errors
    /// The folder cannot be written to, or the format cannot hold these contigs: two of
    /// one name, white space in a name, more than 65535 of them, or 2^32 bases in one.
    pub fn create(path: &Path, contigs: &[ContigSize]) -> Result<Self, TrackError> {
        let io = |error| TrackError::io(path, error);
        Ok(Self {
            cursor: Cursor::new(path, contigs, &LIMITS)?,
            output: AtomicFile::create(path).map_err(io)?,
            spool: Spool::create(folder_of(path)).map_err(io)?,
        })
    }

    /// Appends the values of the next `values.len()` bases of `contig`.
    ///
    /// # Errors
    /// It is not the contig's turn, the values reach past its end, one is not finite, or
    /// the disk is full.
    pub fn push(&mut self, contig: &str, values: &[f32]) -> Result<(), TrackError> {
        let start = self.cursor.advance(contig, values.len() as u64)?;
        require_finite(self.cursor.path(), contig, start, values)?;
        let pushed = self.spool.push(values);
        pushed.map_err(|error| TrackError::io(self.cursor.path(), error))
    }

    /// Leaves the next `count` bases of `contig` without value.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn skip(&mut self, contig: &str, count: u64) -> Result<(), TrackError> {
        self.cursor.advance(contig, count)?;
        let skipped = self.spool.skip(count);
        skipped.map_err(|error| TrackError::io(self.cursor.path(), error))
    }

    /// Encodes the file and gives it its name.
    ///
    /// # Errors
    /// A contig lacks values, no contig has any, or the disk is full.
    pub fn finish(self) -> Result<(), TrackError> {
        self.cursor.finish()?;
        let path = self.cursor.path();
        let io = |error| TrackError::io(path, error);
        let spool = self.spool.into_file().map_err(io)?;
        let mut entries = entries(self.cursor.contigs(), &spool).map_err(io)?;
        if entries.is_empty() {
            let path = path.to_path_buf();
            return Err(TrackError::NoValues { path });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let output = self.output.try_clone().map_err(io)?;
        encode(path, output, Source::new(entries, spool))?;
        self.output.commit().map_err(io)
    }
}

/// Writes a whole bigWig from `pieces`: the name of a contig and its next values.
///
/// # Errors
/// As [`Writer`].
pub fn write<N: AsRef<str>, V: AsRef<[f32]>>(
    path: &Path,
    contigs: &[ContigSize],
    pieces: impl IntoIterator<Item = (N, V)>,
) -> Result<(), TrackError> {
    let mut writer = Writer::create(path, contigs)?;
    for (contig, values) in pieces {
        writer.push(contig.as_ref(), values.as_ref())?;
    }
    writer.finish()
}

/// The contigs that have a value, and where the spool holds them.
fn entries(contigs: &[ContigSize], spool: &File) -> std::io::Result<Vec<Entry>> {
    let mut first = 0;
    let mut entries = Vec::new();
    for contig in contigs {
        if spool::runs(spool, first, contig.length)?.next().is_some() {
            entries.push(Entry {
                name: contig.name.clone(),
                first,
                length: contig.length,
            });
        }
        first += contig.length;
    }
    Ok(entries)
}

fn encode(path: &Path, output: File, source: Source) -> Result<(), TrackError> {
    let sizes: HashMap<String, u32> = source.sizes().collect();
    let (sink, outcome) = Sink::new(output);
    let mut encoder = BigWigWrite::new(sink, sizes);
    encoder.options.inmemory = true;
    encoded(path, &outcome, |runtime| encoder.write(source, runtime))
}

/// Runs an encoder with the threads that it wants, and finds out what went wrong.
pub(crate) fn encoded(
    path: &Path,
    outcome: &Outcome,
    encode: impl FnOnce(Runtime) -> Result<(), BBIProcessError<std::io::Error>>,
) -> Result<(), TrackError> {
    let io = |error| TrackError::io(path, error);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("bigwig")
        .build()
        .map_err(io)?;
    let encoded = encode(runtime);
    outcome.take().map_err(io)?;
    encoded.map_err(|error| match error {
        BBIProcessError::IoError(error) | BBIProcessError::SourceError(error) => io(error),
        BBIProcessError::InvalidInput(reason) | BBIProcessError::InvalidChromosome(reason) => {
            TrackError::Encode {
                path: path.to_path_buf(),
                reason,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bigtools::BigWigRead;
    use proptest::prelude::*;

    type Contig = (String, Vec<f32>);

    /// Names, lengths and values as an independent pass over the file finds them.
    fn read(path: &Path) -> Vec<Contig> {
        let mut file = BigWigRead::open_file(path).unwrap();
        let chroms = file.chroms().to_vec();
        chroms
            .into_iter()
            .map(|chrom| {
                let values = file.values(&chrom.name, 0, chrom.length).unwrap();
                (chrom.name, values)
            })
            .collect()
    }

    fn write_all(contigs: &[Contig], piece: usize) -> Result<Vec<Contig>, TrackError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bw");
        let sizes: Vec<_> = contigs
            .iter()
            .map(|(name, values)| ContigSize::new(name.as_str(), values.len() as u64))
            .collect();
        let pieces = contigs
            .iter()
            .flat_map(|(name, values)| values.chunks(piece).map(move |piece| (name, piece)));
        write(&path, &sizes, pieces)?;
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        Ok(read(&path))
    }

    fn sorted(contigs: &[Contig]) -> Vec<Contig> {
        let mut listed: Vec<_> = contigs
            .iter()
            .filter(|c| !c.1.is_empty())
            .cloned()
            .collect();
        listed.sort_by(|a, b| a.0.cmp(&b.0));
        listed
    }

    fn wave(length: usize, seed: f32) -> Vec<f32> {
        (0..length)
            .map(|i| (i as f32 * 0.37 + seed).sin())
            .collect()
    }

    #[test]
    fn contigs_in_any_order_are_listed_sorted() {
        let contigs = [
            ("pB".to_owned(), wave(5_000, 0.0)),
            ("none".to_owned(), vec![]),
            ("chr".to_owned(), wave(70_001, 1.0)),
            ("one".to_owned(), vec![0.1]),
            ("flat".to_owned(), vec![0.5; 3_000]),
        ];
        assert_eq!(write_all(&contigs, 999).unwrap(), sorted(&contigs));
    }

    #[test]
    fn hundreds_of_contigs_keep_their_values() {
        let contigs: Vec<_> = (0..700)
            .map(|i| (format!("contig_{i}"), wave(1 + i % 37 * 40, i as f32)))
            .collect();
        assert_eq!(write_all(&contigs, 64).unwrap(), sorted(&contigs));
    }

    #[test]
    fn zoom_levels_are_no_wider_than_the_longest_contig() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bw");
        for length in [1, 159, 5_000, 200_000] {
            let contigs = [ContigSize::new("c", length as u64)];
            write(&path, &contigs, [("c", wave(length, 0.0))]).unwrap();
            let file = BigWigRead::open_file(&path).unwrap();
            let zooms = &file.info().zoom_headers;
            assert!(zooms.iter().all(|z| z.reduction_level as usize <= length));
            assert_eq!(zooms.is_empty(), length < 160, "{length}");
        }
    }

    #[test]
    fn skipped_bases_have_no_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bw");
        let contigs = [ContigSize::new("a", 4), ContigSize::new("b", 3)];
        let mut writer = Writer::create(&path, &contigs).unwrap();
        writer.push("a", &[1.0]).unwrap();
        writer.skip("a", 2).unwrap();
        writer.push("a", &[2.0]).unwrap();
        writer.skip("b", 3).unwrap();
        writer.finish().unwrap();
        let read = read(&path);
        assert_eq!(read.len(), 1);
        assert!(read[0].1[1].is_nan() && read[0].1[2].is_nan());
        assert_eq!((read[0].1[0], read[0].1[3]), (1.0, 2.0));
    }

    #[test]
    fn bad_data_leaves_no_file() {
        let error = |contigs: &[Contig]| write_all(contigs, 10).unwrap_err().to_string();
        let bad = error(&[("c".to_owned(), vec![0.0, f32::NAN])]);
        assert!(
            bad.ends_with("c:2: the value is NaN, expected a finite number"),
            "{bad}"
        );
        let empty = error(&[("c".to_owned(), vec![])]);
        assert!(empty.ends_with("no contig has a value, and this format cannot be empty"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bw");
        let mut writer = Writer::create(&path, &[ContigSize::new("c", 2)]).unwrap();
        assert!(matches!(
            writer.push("c", &[0.0; 3]),
            Err(TrackError::PastEnd { position: 3, .. })
        ));
        writer.push("c", &[0.0]).unwrap();
        assert!(matches!(
            writer.finish(),
            Err(TrackError::Unfinished { got: 1, .. })
        ));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_same_values_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bw");
        let contigs = [ContigSize::new("c", 50_000), ContigSize::new("d", 9)];
        let bytes = |piece| {
            let (c, d) = (wave(50_000, 0.0), wave(9, 1.0));
            let mut writer = Writer::create(&path, &contigs).unwrap();
            c.chunks(piece).for_each(|v| writer.push("c", v).unwrap());
            writer.push("d", &d).unwrap();
            writer.finish().unwrap();
            std::fs::read(&path).unwrap()
        };
        assert_eq!(bytes(1_000), bytes(50_000));
    }

    /// `/dev/full` refuses every write with "no space left on device".
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_no_panic() {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut spool = Spool::create(Path::new(".")).unwrap();
        spool.push(&wave(200_000, 0.0)).unwrap();
        let entry = Entry {
            name: "c".into(),
            first: 0,
            length: 200_000,
        };
        let source = Source::new(vec![entry], spool.into_file().unwrap());
        let error = encode(Path::new("x.bw"), full, source).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("x.bw: cannot be written: No space")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn values_are_read_back_bit_for_bit(
            contigs in prop::collection::btree_map(
                "[a-zA-Z0-9_.|]{1,12}",
                prop::collection::vec(
                    prop_oneof![prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL, Just(0.5)],
                    0..400,
                ),
                1..6,
            ).prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            piece in 1..200_usize,
        ) {
            prop_assume!(contigs.iter().any(|c| !c.1.is_empty()));
            let bits = |contigs: Vec<Contig>| -> Vec<(String, Vec<u32>)> {
                contigs.into_iter()
                    .map(|(name, values)| (name, values.into_iter().map(f32::to_bits).collect()))
                    .collect()
            };
            let expected = bits(sorted(&contigs));
            prop_assert_eq!(bits(write_all(&contigs, piece).unwrap()), expected);
        }
    }
}
