//! Where a model starts its chunks and how much each base surprises it, along whole contigs.
//!
//! Each strand of a contig is read once from its end to end, in [`block`]s of tokens,
//! with the model's state carried from block to block. Blocks begin at fixed places, so that
//! values depend on the contig alone: not on how many blocks are read at a time, on other
//! contigs, or on threads. They equal those of one pass over the contig but for rounding.
//!
//! A circular contig is read from before its origin: the model has seen its end when it comes
//! to its first base. A linear one begins with the beginning token.
//!
//! Attention over all chunks of a chromosome would need memory and time that grow with it, and
//! a context that no model was trained on. Where a model's attention has no window of its own,
//! [`bounded`] gives it one.

mod cut;
mod spool;
mod walk;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cistron_genome::coord::Strand;
use cistron_genome::fasta::Contig;
use cistron_model::HNet;
use cistron_model::config::PerStage;
use tch::Device;

use crate::engine::Engine;
use crate::error::ScoreError;

pub use cut::Cutter;
pub use spool::{Column, Spool};
pub use walk::{Piece, StagePiece, Walk};

/// Tokens a forward pass: many for a GPU; on a CPU few enough that what one layer hands to the next
/// stays in its caches (2,048 take a tenth less time than 8,192).
pub fn block(device: Device) -> usize {
    if device.is_cuda() { 8192 } else { 2048 }
}

/// How contigs are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Bases of a circular contig's end that are read before its origin, at most one turn.
    pub warm_up: usize,
    /// Bases that a worker reads before what it found is handed on; rounded up to blocks.
    /// Values do not depend on it.
    pub tile: usize,
}

/// The same model with attention that looks back over about `context` bases where it had no
/// window: `context` divided by the ratios of the stages around it, in chunks. 0 leaves it as
/// it is.
pub fn bounded(model: &HNet, context: usize) -> HNet {
    let mut config = model.config().clone();
    if context > 0 {
        let mut ratio = 1.0;
        let windows = (0..config.stages()).map(|stage| {
            let own = config.attn_cfg.window_size.at(stage);
            let window = (context as f64 / ratio).ceil().max(1.0) as i64;
            ratio *= config.cistron.ratio.get(stage).copied().unwrap_or(1.0);
            if own < 0 { window } else { own }
        });
        config.attn_cfg.window_size = PerStage::Each(windows.collect());
    }
    HNet::with_params(config, model.params().shallow_clone(), model.device())
        .with_compute(model.compute().clone())
}

/// Reads `strands` of all `contigs`; `sink` takes the index of the contig, the strand, and a
/// piece of it. Pieces of one strand of a contig come in reading order, those of different
/// ones in any.
///
/// # Errors
///
/// A likelihood is not finite, the run was stopped, or the first error of `sink`.
pub fn read(
    engine: &Engine,
    contigs: &[Contig],
    strands: &[Strand],
    reading: Reading,
    sink: &mut dyn FnMut(usize, Strand, Piece) -> Result<(), ScoreError>,
) -> Result<(), ScoreError> {
    // Longest first, so that no worker is left with a chromosome at the end.
    let mut jobs: Vec<(usize, Strand)> = (0..contigs.len())
        .flat_map(|contig| strands.iter().map(move |&strand| (contig, strand)))
        .filter(|&(contig, _)| !contigs[contig].bases.is_empty())
        .collect();
    jobs.sort_by_key(|&(contig, _)| std::cmp::Reverse(contigs[contig].bases.len()));
    let next = AtomicUsize::new(0);
    let workers: Vec<Mutex<Option<Walk<'_>>>> =
        (0..engine.threads()).map(|_| Mutex::new(None)).collect();
    loop {
        let found = engine.map(&workers, |model, worker| {
            let mut walk = worker
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut pieces = Vec::new();
            let mut left = reading.tile;
            while left > 0 {
                let open = match &mut *walk {
                    Some(open) => open,
                    None => {
                        let Some(&(contig, strand)) =
                            jobs.get(next.fetch_add(1, Ordering::Relaxed))
                        else {
                            break;
                        };
                        walk.insert(Walk::new(contig, &contigs[contig], strand, reading.warm_up))
                    }
                };
                let place = (open.number(), open.strand());
                match open.advance(engine, model)? {
                    Some(piece) => {
                        left = left.saturating_sub(piece.information.len());
                        pieces.push((place, piece));
                    }
                    None => *walk = None,
                }
            }
            Ok(pieces)
        })?;
        let mut any = false;
        for ((contig, strand), piece) in found.into_iter().flatten() {
            any = true;
            sink(contig, strand, piece)?;
        }
        if !any {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
