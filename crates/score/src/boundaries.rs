//! Where a model starts its chunks, along whole contigs.
//!
//! A model always starts a chunk at the first token it sees. Contigs are
//! therefore read in overlapping tiles, and the first bases of a tile, its
//! warm-up, are taken from the tile before: no tile start shows as a boundary.

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::revcomp;
use cistron_genome::window::Window;
use cistron_tracks::{Boundary, Chunk, chunk};

use crate::engine::{Engine, Reading};
use crate::error::ScoreError;

/// How contigs are cut into tiles.
#[derive(Debug, Clone, Copy)]
pub struct Tiling {
    /// Bases a tile.
    pub tile: usize,
    /// Bases at the start of a tile that are read and dropped; at most half of a circular contig.
    pub warm_up: usize,
}

/// One stage along a contig, in forward coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTrack {
    /// Probability that a chunk starts at each base, reading along the strand.
    /// At inner stages it is zero where no outer chunk starts.
    pub prob: Vec<f32>,
    /// Whether a chunk starts there.
    pub start: Vec<bool>,
}

/// What a model says along one strand of a contig, in forward coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct ContigTracks {
    /// Stages, outermost first.
    pub stages: Vec<StageTrack>,
    /// `-log2` of each base's likelihood, in bits.
    pub information: Vec<f32>,
}

impl StageTrack {
    /// Chunks that tile the contig, in forward order; the first base read starts one.
    pub fn chunks(&self, strand: Strand) -> Vec<Chunk> {
        let length = self.start.len();
        let forward = |read: usize| match strand {
            Strand::Forward => read,
            Strand::Reverse => length - 1 - read,
        };
        let starts = (0..length).filter(|&read| read == 0 || self.start[forward(read)]);
        let boundary = |read| Boundary {
            start: read as u64,
            probability: self.prob[forward(read)],
        };
        let boundaries: Vec<Boundary> = starts.map(boundary).collect();
        chunk::tile(length as u64, &boundaries, strand)
            .expect("boundaries ascend from the first base")
    }
}

/// A tile: bases to read from `start` (it may lie before a circular contig's origin), of
/// which those from `keep` on are new.
struct Tile {
    start: i64,
    length: usize,
    keep: usize,
}

fn tiles(contig: &Contig, tiling: Tiling) -> Vec<Tile> {
    let length = contig.bases.len();
    let mut tiles = Vec::new();
    let mut done = 0;
    while done < length {
        let before = match contig.topology {
            Topology::Linear => tiling.warm_up.min(done),
            // No base twice in one tile, and no tile that is nearly all warm-up.
            Topology::Circular => tiling.warm_up.min(length / 2),
        };
        let fresh = (tiling.tile - before)
            .min(length - done)
            .min(length - before);
        tiles.push(Tile {
            start: done as i64 - before as i64,
            length: before + fresh,
            keep: before,
        });
        done += fresh;
    }
    tiles
}

/// Reads one strand of a contig; `progress` hears of the new bases of each batch.
///
/// # Errors
///
/// The tiling leaves nothing after the warm-up, or a likelihood is not finite.
pub fn contig_tracks(
    engine: &Engine,
    contig: &Contig,
    strand: Strand,
    tiling: Tiling,
    progress: &mut dyn FnMut(u64),
) -> Result<ContigTracks, ScoreError> {
    if tiling.tile <= tiling.warm_up {
        return Err(ScoreError::Setting(format!(
            "--tile {} must be longer than --warm-up {}",
            tiling.tile, tiling.warm_up
        )));
    }
    let turned;
    let contig = match strand {
        Strand::Forward => contig,
        Strand::Reverse => {
            turned = Contig {
                bases: revcomp(&contig.bases),
                ..contig.clone()
            };
            &turned
        }
    };
    let length = contig.bases.len();
    let mut tracks = ContigTracks {
        stages: Vec::new(),
        information: Vec::with_capacity(length),
    };
    let tiles = tiles(contig, tiling);
    for batch in tiles.chunks(4 * engine.threads()) {
        let readings = engine.map(batch, |model, tile| {
            engine.read(
                model,
                &Window::extract(contig, tile.start, tile.length).bases,
            )
        })?;
        let mut fresh = 0;
        for (tile, reading) in batch.iter().zip(&readings) {
            append(&mut tracks, reading, tile.keep);
            fresh += (tile.length - tile.keep) as u64;
        }
        progress(fresh);
    }
    if strand == Strand::Reverse {
        tracks.information.reverse();
        for stage in &mut tracks.stages {
            stage.prob.reverse();
            stage.start.reverse();
        }
    }
    Ok(tracks)
}

fn append(tracks: &mut ContigTracks, reading: &Reading, keep: usize) {
    let bits = |value: &f32| -value * std::f32::consts::LOG2_E;
    tracks
        .information
        .extend(reading.log_likelihoods[keep..].iter().map(bits));
    if tracks.stages.is_empty() {
        let empty = || StageTrack {
            prob: Vec::new(),
            start: Vec::new(),
        };
        tracks.stages = reading.stages.iter().map(|_| empty()).collect();
    }
    // Token of stage 0 behind each token of the present stage; token 0 is BOS.
    let length = reading.log_likelihoods.len();
    let mut tokens: Vec<usize> = (0..=length).collect();
    for (track, stage) in tracks.stages.iter_mut().zip(&reading.stages) {
        let mut prob = vec![0.0; length + 1];
        let mut start = vec![false; length + 1];
        for ((&token, &p), &b) in tokens.iter().zip(&stage.prob).zip(&stage.mask) {
            prob[token] = p;
            start[token] = b;
        }
        track.prob.extend_from_slice(&prob[keep + 1..]);
        track.start.extend_from_slice(&start[keep + 1..]);
        tokens = tokens
            .iter()
            .zip(&stage.mask)
            .filter(|(_, b)| **b)
            .map(|(&t, _)| t)
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contig(length: usize, topology: Topology) -> Contig {
        Contig {
            name: "c".into(),
            description: String::new(),
            bases: b"ACGT".iter().copied().cycle().take(length).collect(),
            topology,
        }
    }

    proptest! {
        #[test]
        fn tiles_cover_every_base_once(
            length in 1usize..500, tile in 2usize..100, warm_up in 0usize..99, circular: bool,
        ) {
            prop_assume!(warm_up < tile);
            let topology = if circular { Topology::Circular } else { Topology::Linear };
            let contig = contig(length, topology);
            let mut next = 0i64;
            for part in tiles(&contig, Tiling { tile, warm_up }) {
                prop_assert_eq!(part.start + part.keep as i64, next);
                prop_assert!(part.length <= tile);
                let bases = Window::extract(&contig, part.start, part.length).bases;
                prop_assert_eq!(bases.len(), part.length);
                next += (part.length - part.keep) as i64;
            }
            prop_assert_eq!(next as usize, length);
        }

        #[test]
        fn small_circular_contigs_take_few_tiles(length in 1usize..50) {
            let tiling = Tiling { tile: 100, warm_up: 50 };
            prop_assert!(tiles(&contig(length, Topology::Circular), tiling).len() <= 2);
        }

        #[test]
        fn chunks_tile_the_contig(starts in prop::collection::vec(any::<bool>(), 0..60), reverse: bool) {
            let strand = if reverse { Strand::Reverse } else { Strand::Forward };
            let track = StageTrack { prob: vec![0.0; starts.len()], start: starts.clone() };
            let mut edge = 0;
            for chunk in track.chunks(strand) {
                prop_assert_eq!(chunk.interval.start(), edge);
                edge = chunk.interval.end();
                let first = match strand {
                    Strand::Forward => chunk.interval.start(),
                    Strand::Reverse => chunk.interval.end() - 1,
                };
                let end_of_reading = first as usize + 1 == starts.len() && reverse;
                prop_assert!(starts[first as usize] || first == 0 || end_of_reading);
            }
            prop_assert_eq!(edge as usize, starts.len());
        }
    }
}
