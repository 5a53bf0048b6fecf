//! The genome beside its tracks, as browsers want it: FASTA in BGZF with `.fai` and `.gzi`
//! indexes for JBrowse 2 and IGV, and 2bit for UCSC.

mod twobit;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cistron_genome::fasta::Genome;
use noodles::bgzf;

use crate::TrackError;
use crate::atomic::AtomicFile;

pub use twobit::write_twobit;

/// Bases a line.
const LINE: usize = 80;

/// Writes `path`, which should end in `.fa.gz`, with `.fai` and `.gzi` beside it.
///
/// Oracle: `samtools faidx` reads any region.
///
/// # Errors
/// The folder cannot be written to, or the disk is full.
pub fn write_fasta(path: &Path, genome: &Genome) -> Result<(), TrackError> {
    let io = |error| TrackError::io(path, error);
    let mut writer = bgzf::io::Writer::new(AtomicFile::create(path).map_err(io)?);
    let mut offsets = Offsets::default();
    let mut fai = String::new();
    for contig in &genome.contigs {
        let header = match contig.description.as_str() {
            "" => format!(">{}\n", contig.name),
            description => format!(">{} {description}\n", contig.name),
        };
        offsets.write(&mut writer, header.as_bytes()).map_err(io)?;
        fai += &format!(
            "{}\t{}\t{}\t{LINE}\t{}\n",
            contig.name,
            contig.bases.len(),
            offsets.plain,
            LINE + 1
        );
        for line in contig.bases.chunks(LINE) {
            offsets.write(&mut writer, line).map_err(io)?;
            offsets.write(&mut writer, b"\n").map_err(io)?;
        }
    }
    let file = writer.finish().map_err(io)?;
    file.commit().map_err(io)?;
    write_whole(&beside(path, ".fai"), fai.as_bytes())?;
    let index = offsets.blocks;
    let mut bytes = (index.len() as u64).to_le_bytes().to_vec();
    for (compressed, plain) in index {
        bytes.extend(compressed.to_le_bytes());
        bytes.extend(plain.to_le_bytes());
    }
    write_whole(&beside(path, ".gzi"), &bytes)
}

/// Where blocks begin: in the file, and in what it holds.
#[derive(Default)]
struct Offsets {
    plain: u64,
    /// Every block but the first.
    blocks: Vec<(u64, u64)>,
}

impl Offsets {
    fn write<W: Write>(
        &mut self,
        writer: &mut bgzf::io::Writer<W>,
        bytes: &[u8],
    ) -> io::Result<()> {
        writer.write_all(bytes)?;
        self.plain += bytes.len() as u64;
        let place = writer.virtual_position();
        let begun = self.blocks.last().map_or(0, |block| block.0);
        if place.compressed() > begun {
            self.blocks.push((
                place.compressed(),
                self.plain - u64::from(place.uncompressed()),
            ));
        }
        Ok(())
    }
}

/// `path` with `ending` appended.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Writes a small file whole or not at all.
///
/// # Errors
/// The folder cannot be written to, or the disk is full.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrackError> {
    AtomicFile::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.commit()
        })
        .map_err(|error| TrackError::io(path, error))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use noodles::fasta;

    /// A genome of `contigs`: name and bases.
    pub(crate) fn genome(contigs: &[(&str, &[u8])]) -> Genome {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        let mut text = Vec::new();
        for (name, bases) in contigs {
            text.extend(format!(">{name} described\n").into_bytes());
            text.extend(*bases);
            text.push(b'\n');
        }
        std::fs::write(&path, text).unwrap();
        Genome::read(&path).unwrap()
    }

    #[test]
    fn an_independent_reader_finds_every_region() {
        let bases: Vec<u8> = (0u32..200_001)
            .map(|i| b"ACGTN"[(i.wrapping_mul(2_654_435_761) >> 13) as usize % 5])
            .collect();
        let genome = genome(&[("a", &bases), ("b", b"ACG"), ("c", &bases[..80])]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reference.fa.gz");
        write_fasta(&path, &genome).unwrap();
        let mut reader = fasta::io::indexed_reader::Builder::default()
            .build_from_path(&path)
            .unwrap();
        for (name, start, end) in [
            ("a", 0, 100),
            ("a", 65_000, 66_000),
            ("a", 199_990, 200_001),
            ("b", 0, 3),
            ("c", 79, 80),
        ] {
            let region = format!("{name}:{}-{end}", start + 1).parse().unwrap();
            let record = reader.query(&region).unwrap();
            let expected = &genome.get(name).unwrap().bases[start..end];
            assert_eq!(record.sequence().as_ref(), expected, "{name}:{start}");
        }
    }
}
