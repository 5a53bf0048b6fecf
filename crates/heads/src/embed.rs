//! Frozen states of a genome model as inputs of a head.

use std::sync::atomic::{AtomicBool, Ordering};

use cistron_genome::code::GeneticCode;
use cistron_model::HNet;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::HeadError;

/// Bases that are read in one pass.
const PASS: usize = 16_384;
/// Most memory that states may take, in bytes.
const MOST: f64 = 8e9;

/// How states become the positions of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// One a base.
    Base,
    /// The mean of the three bases of each codon.
    Codon,
    /// The mean of each chunk of the outermost router.
    Chunk,
}

/// States of every sequence: half precision `[n, L, width]` with a mask `[n, L]`, on the CPU.
///
/// # Errors
///
/// The states do not fit into 8 GB, the model has no router to make chunks, or the run was stopped.
pub fn states(
    model: &HNet,
    sequences: &[Vec<u8>],
    level: Level,
    stop: &AtomicBool,
) -> Result<(Tensor, Tensor), HeadError> {
    let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
    let width = model.config().d_model[0] as usize;
    let bytes = 2.0 * sequences.len() as f64 * longest as f64 * width as f64;
    let part = if level == Level::Codon { 3.0 } else { 1.0 };
    if bytes / part > MOST {
        return Err(HeadError::Options(format!(
            "states of {} sequences of up to {longest} bases and width {width} take {:.0} GB; \
             expected at most {:.0}. Use fewer rows or a smaller model",
            sequences.len(),
            bytes / part / 1e9,
            MOST / 1e9
        )));
    }
    if level == Level::Chunk && model.config().stages() < 2 {
        return Err(HeadError::Options(
            "--backbone-level chunk: the model has one stage and makes no chunks; use base".into(),
        ));
    }
    let alphabet = model.config().alphabet();
    let mut rows: Vec<Tensor> = Vec::with_capacity(sequences.len());
    let each = (PASS / (longest + 1)).max(1);
    for batch in sequences.chunks(each) {
        if stop.load(Ordering::Relaxed) {
            return Err(HeadError::Stopped);
        }
        let tokens: Vec<i64> = batch
            .iter()
            .flat_map(|bases| {
                let encode = |&base: &u8| i64::from(alphabet.encode(base));
                std::iter::once(i64::from(alphabet.bos())).chain(bases.iter().map(encode))
            })
            .collect();
        let lengths: Vec<i64> = batch.iter().map(|bases| bases.len() as i64 + 1).collect();
        let (hidden, routing) =
            tch::no_grad(|| model.hidden(&Tensor::from_slice(&tokens), &lengths));
        let starts = routing
            .first()
            .map(|routing| routing.mask.to_kind(Kind::Int64));
        let mut from = 0;
        for &length in &lengths {
            // Without the token that begins a sequence.
            let states = hidden.narrow(0, from + 1, length - 1);
            let states = match (level, &starts) {
                (Level::Codon, _) => {
                    let codons = (length - 1) / 3;
                    let shape = [codons, 3, width as i64];
                    let over = [1i64].as_slice();
                    states.narrow(0, 0, 3 * codons).reshape(shape).mean_dim(
                        over,
                        false,
                        Kind::Float,
                    )
                }
                (Level::Chunk, Some(starts)) => {
                    let starts = starts.narrow(0, from + 1, length - 1);
                    by_chunk(&states, &starts)
                }
                _ => states,
            };
            rows.push(states.to_kind(Kind::Half).to_device(tch::Device::Cpu));
            from += length;
        }
    }
    let most = rows.iter().map(|row| row.size()[0]).max().unwrap_or(0);
    let masks: Vec<Tensor> = rows
        .iter()
        .map(|row| {
            let length = row.size()[0];
            let ones = Tensor::ones([length], (Kind::Half, tch::Device::Cpu));
            ones.constant_pad_nd([0, most - length])
        })
        .collect();
    let padded: Vec<Tensor> = rows
        .iter()
        .map(|row| row.constant_pad_nd([0, 0, 0, most - row.size()[0]]))
        .collect();
    Ok((Tensor::stack(&padded, 0), Tensor::stack(&masks, 0)))
}

/// Means of stretches that begin where `starts` is 1.
fn by_chunk(states: &Tensor, starts: &Tensor) -> Tensor {
    let number = starts.cumsum(0, Kind::Int64);
    let first = number.int64_value(&[0]);
    let number = number - first;
    let chunks = number.int64_value(&[-1]) + 1;
    let options = (Kind::Float, states.device());
    let sum = Tensor::zeros([chunks, states.size()[1]], options).index_add(0, &number, states);
    let ones = Tensor::ones([states.size()[0]], options);
    let count = Tensor::zeros([chunks], options).index_add(0, &number, &ones);
    sum / count.unsqueeze(-1)
}

/// The coding sequence of a protein that differs from `wild_type` by substitutions: where a letter
/// differs, the codon with the fewest changed bases, the first by alphabet of several.
///
/// # Errors
///
/// The coding sequence is not that of the wild type.
pub fn coding(
    cds: &[u8],
    wild_type: &[u8],
    protein: &[u8],
    code: GeneticCode,
) -> Result<Vec<u8>, HeadError> {
    let problem = |text: String| HeadError::Options(format!("--cds: {text}"));
    if cds.len() < 3 * wild_type.len() || protein.len() != wild_type.len() {
        return Err(problem(format!(
            "{} bases; the wild type's {} letters need {}",
            cds.len(),
            wild_type.len(),
            3 * wild_type.len()
        )));
    }
    let mut bases = cds[..3 * wild_type.len()].to_ascii_uppercase();
    for (i, (&from, &to)) in wild_type.iter().zip(protein).enumerate() {
        let codon = &mut bases[3 * i..3 * i + 3];
        let found = code.amino_acid(codon);
        // Any start codon is a methionine at the beginning.
        if found != from && !(i == 0 && from == b'M') {
            return Err(problem(format!(
                "codon {} is {}, but the wild type has {} there",
                i + 1,
                char::from(found),
                char::from(from)
            )));
        }
        if from == to {
            continue;
        }
        let changes = |other: &[u8; 3]| {
            other
                .iter()
                .zip(codon.iter())
                .filter(|(a, b)| a != b)
                .count()
        };
        let mut codons: Vec<[u8; 3]> = code.codons(to).collect();
        codons.sort_unstable();
        let Some(best) = codons.iter().min_by_key(|other| changes(other)) else {
            return Err(problem(format!("'{}' has no codon", char::from(to))));
        };
        codon.copy_from_slice(best);
    }
    Ok(bases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_nearest_codon_is_taken() {
        let code = GeneticCode::from_table(11).unwrap();
        // M K A: K to R by AAA -> AGA.
        assert_eq!(
            coding(b"ATGAAAGCT", b"MKA", b"MRA", code).unwrap(),
            b"ATGAGAGCT"
        );
        assert_eq!(coding(b"ATGAAAGCT", b"MKA", b"MK*", code).unwrap().len(), 9);
        assert!(coding(b"ATGAAA", b"MKA", b"MKA", code).is_err());
        assert!(coding(b"ATGGCTGCT", b"MKA", b"MKA", code).is_err());
    }

    #[test]
    fn chunks_are_means() {
        let states = Tensor::from_slice(&[1f32, 3.0, 5.0, 8.0]).reshape([4, 1]);
        let starts = Tensor::from_slice(&[1i64, 0, 1, 0]);
        let chunks = by_chunk(&states, &starts);
        assert_eq!(
            Vec::<f32>::try_from(chunks.reshape([-1])).unwrap(),
            [2.0, 6.5]
        );
        assert_eq!(chunks.device(), Device::Cpu);
    }
}
