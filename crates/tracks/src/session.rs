//! What browsers need to show a folder of tracks: a JBrowse 2 configuration and page, an IGV
//! session, an igv.js page, and a UCSC hub.
//!
//! All paths are relative, so that a folder can be moved and served from anywhere.

mod igv;
mod jbrowse;
mod pages;
mod ucsc;

use cistron_genome::coord::{ContigName, Interval, Strand};
use std::path::Path;

use crate::reference::write_whole;
use crate::{TrackError, bed};

/// FASTA of the genome; `.fai` and `.gzi` stand beside it.
pub const FASTA: &str = "reference.fa.gz";
/// The genome for UCSC.
pub const TWOBIT: &str = "reference.2bit";
/// Genes with their index `.tbi`.
pub const GENES: &str = "genes.gff3.gz";
/// Genes for UCSC.
pub const GENES_BIGBED: &str = "genes.bb";

/// What a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Boundary probability of a stage, 0 to 1.
    Boundary,
    /// Chunks of a stage.
    Chunks,
    /// Length of the chunk that a base belongs to.
    Length,
    /// Information of a base in bits.
    Information,
    /// Entropy of the prediction of a base in bits.
    Entropy,
}

/// One track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// What it shows.
    pub kind: Kind,
    /// Its stage, from one; none for tracks of bases.
    pub stage: Option<usize>,
    /// Direction in which the model read.
    pub strand: Strand,
}

/// Which files of each track there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// `.bw`
    pub bigwig: bool,
    /// `.bedGraph.gz`
    pub bedgraph: bool,
    /// `.bed.gz`
    pub bed: bool,
    /// `.bb`
    pub bigbed: bool,
}

/// A folder of tracks, as browsers are to show it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Name of the assembly: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Contig and bases that are shown first.
    pub place: (ContigName, Interval),
    /// The tracks, in the order in which they are shown.
    pub tracks: Vec<Track>,
    /// Which files there are.
    pub files: Files,
    /// Whether there are genes.
    pub genes: bool,
    /// Whether there are genes for UCSC too.
    pub genes_bigbed: bool,
}

impl Track {
    /// File name without its ending, `stage1.fwd.boundary`.
    pub fn stem(&self) -> String {
        let strand = match self.strand {
            Strand::Forward => "fwd",
            Strand::Reverse => "rev",
        };
        match (self.kind, self.stage.unwrap_or(1)) {
            (Kind::Boundary, stage) => format!("stage{stage}.{strand}.boundary"),
            (Kind::Chunks, stage) => format!("stage{stage}.{strand}.chunks"),
            (Kind::Length, stage) => format!("stage{stage}.{strand}.length"),
            (Kind::Information, _) => format!("information.{strand}"),
            (Kind::Entropy, _) => format!("entropy.{strand}"),
        }
    }

    /// Name to show, `Stage 1 boundaries (+)`.
    fn label(&self) -> String {
        let what = match (self.kind, self.stage.unwrap_or(1)) {
            (Kind::Boundary, stage) => format!("Stage {stage} boundaries"),
            (Kind::Chunks, stage) => format!("Stage {stage} chunks"),
            (Kind::Length, stage) => format!("Stage {stage} chunk length"),
            (Kind::Information, _) => "Information, bits".to_owned(),
            (Kind::Entropy, _) => "Entropy, bits".to_owned(),
        };
        format!("{what} ({})", self.strand)
    }

    /// Lowest and highest value of the scale; none where it follows the data.
    fn range(&self) -> Option<(f64, f64)> {
        match self.kind {
            Kind::Boundary => Some((0.0, 1.0)),
            Kind::Information => Some((0.0, 4.0)),
            Kind::Entropy => Some((0.0, 2.0)),
            Kind::Chunks | Kind::Length => None,
        }
    }

    /// `red,green,blue`; a stage has the colour of its chunks.
    fn colour(&self) -> &'static str {
        match self.stage {
            Some(stage) => bed::colour(stage),
            None => "90,90,90",
        }
    }

    /// The colour as `#rrggbb`.
    fn hex(&self) -> String {
        let parts = self
            .colour()
            .split(',')
            .filter_map(|part| part.parse::<u8>().ok());
        parts.fold("#".to_owned(), |text, part| text + &format!("{part:02x}"))
    }

    /// Whether it is shown at first: the forward strand, without what can be seen elsewhere.
    fn shown(&self) -> bool {
        self.strand == Strand::Forward && !matches!(self.kind, Kind::Length | Kind::Entropy)
    }
}

impl Session {
    /// The file that browsers read a track from; none was written where there is none.
    fn file(&self, track: &Track) -> Option<String> {
        let ending = match track.kind {
            Kind::Chunks if self.files.bed => "bed.gz",
            Kind::Chunks if self.files.bigbed => "bb",
            Kind::Chunks => return None,
            _ if self.files.bigwig => "bw",
            _ if self.files.bedgraph => "bedGraph.gz",
            _ => return None,
        };
        Some(format!("{}.{ending}", track.stem()))
    }

    /// Tracks that have a file.
    fn present(&self) -> impl Iterator<Item = (&Track, String)> {
        let tracks = self.tracks.iter();
        tracks.filter_map(|track| self.file(track).map(|file| (track, file)))
    }

    /// `contig:first-last`, counted from one.
    pub fn locus(&self) -> String {
        format!("{}:{}", self.place.0, self.place.1)
    }

    /// Writes all session files into `folder`.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, folder: &Path) -> Result<(), TrackError> {
        let files = [
            ("config.json", format!("{:#}\n", jbrowse::config(self))),
            ("jbrowse.html", pages::jbrowse(self)),
            ("igv.json", format!("{:#}\n", igv::json(self))),
            ("igv.html", pages::igv(self)),
            ("igv.xml", igv::xml(self)),
            ("hub.txt", ucsc::hub(self)),
        ];
        let mut files = files.iter();
        files.try_for_each(|(name, text)| write_whole(&folder.join(name), text.as_bytes()))
    }
}

/// Text in an attribute or element of HTML or XML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn session() -> Session {
        let track = |kind, stage, strand| Track {
            kind,
            stage,
            strand,
        };
        Session {
            name: "phage".into(),
            place: ("NC_1.1".into(), Interval::new(9, 500).unwrap()),
            tracks: vec![
                track(Kind::Boundary, Some(1), Strand::Forward),
                track(Kind::Chunks, Some(2), Strand::Reverse),
                track(Kind::Entropy, None, Strand::Forward),
            ],
            files: Files {
                bigwig: true,
                bedgraph: true,
                bed: true,
                bigbed: true,
            },
            genes: true,
            genes_bigbed: true,
        }
    }

    #[test]
    fn every_file_that_is_named_is_relative_and_every_track_has_one() {
        let session = session();
        let folder = tempfile::tempdir().unwrap();
        session.write(folder.path()).unwrap();
        for name in ["config.json", "igv.json", "igv.xml"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            for file in [
                "stage1.fwd.boundary.bw",
                "stage2.rev.chunks.bed.gz",
                "entropy.fwd.bw",
                GENES,
                FASTA,
            ] {
                // igv.js cannot hide a track: it gets those that are shown at first.
                let hidden = name == "igv.json"
                    && !file.contains("boundary")
                    && file.contains('.')
                    && file.starts_with(['s', 'e']);
                assert_eq!(
                    text.contains(&format!("\"{file}\"")),
                    !hidden,
                    "{name}: {file}"
                );
            }
            assert!(
                !text.contains("http://") && !text.contains("file:"),
                "{name}"
            );
            assert!(text.contains("NC_1.1:10-500"), "{name}");
        }
        let hub = std::fs::read_to_string(folder.path().join("hub.txt")).unwrap();
        for line in [
            "useOneFile on",
            "twoBitPath reference.2bit",
            "defaultPos NC_1.1:10-500",
            "bigDataUrl stage2.rev.chunks.bb",
            "bigDataUrl genes.bb",
            "color 0,114,178",
        ] {
            assert!(hub.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn text_formats_stand_in_where_binary_ones_are_absent() {
        let mut session = session();
        session.files = Files {
            bedgraph: true,
            bigbed: true,
            ..Files::default()
        };
        let text = jbrowse::config(&session).to_string();
        assert!(text.contains("stage1.fwd.boundary.bedGraph.gz.tbi"));
        assert!(text.contains("stage2.rev.chunks.bb"));
        session.files = Files::default();
        assert_eq!(session.present().count(), 0);
    }
}
