//! One packed batch of tokens with the targets of each.

use cistron_genome::alphabet::Alphabet;
use tch::{Device, Tensor};

/// Target of a token whose next base is not scored.
pub const IGNORED: i64 = -100;

/// Sequences packed end to end: token `t` is to predict target `t`.
#[derive(Debug)]
pub struct Batch {
    /// i64 `[tokens]`.
    pub tokens: Tensor,
    /// i64 `[tokens]`; [`IGNORED`] where the next base is not one of A, C, G and T.
    pub targets: Tensor,
    /// Tokens of each sequence.
    pub lengths: Vec<i64>,
    /// Number of targets that are not ignored.
    pub scored: u64,
}

/// Collects sequences for a [`Batch`].
#[derive(Debug)]
pub struct BatchBuilder {
    alphabet: Alphabet,
    bos: bool,
    tokens: Vec<i64>,
    targets: Vec<i64>,
    lengths: Vec<i64>,
    scored: u64,
}

impl BatchBuilder {
    /// An empty batch; with `bos` each sequence begins with the token for its beginning.
    pub fn new(alphabet: Alphabet, bos: bool) -> Self {
        Self {
            alphabet,
            bos,
            tokens: Vec::new(),
            targets: Vec::new(),
            lengths: Vec::new(),
            scored: 0,
        }
    }

    /// Bases that a sequence of `tokens` tokens needs: the last base is a target alone.
    pub fn bases(tokens: u64, bos: bool) -> u64 {
        tokens + u64::from(!bos)
    }

    /// Adds a sequence of upper-case ASCII bases. One too short to have a target adds nothing.
    pub fn push(&mut self, bases: &[u8]) {
        let beginning = self.bos.then(|| self.alphabet.bos());
        let tokens = beginning
            .into_iter()
            .chain(bases.iter().map(|&base| self.alphabet.encode(base)))
            .map(i64::from);
        let length = (usize::from(self.bos) + bases.len()).saturating_sub(1);
        if length == 0 {
            return;
        }
        self.tokens.extend(tokens.take(length));
        for &base in &bases[bases.len() - length..] {
            let real = matches!(base, b'A' | b'C' | b'G' | b'T');
            self.scored += u64::from(real);
            self.targets.push(if real {
                i64::from(self.alphabet.encode(base))
            } else {
                IGNORED
            });
        }
        self.lengths.push(length as i64);
    }

    /// The batch, on `device`.
    pub fn finish(self, device: Device) -> Batch {
        Batch {
            tokens: Tensor::from_slice(&self.tokens).to_device(device),
            targets: Tensor::from_slice(&self.targets).to_device(device),
            lengths: self.lengths,
            scored: self.scored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bos: bool, sequences: &[&[u8]]) -> (Vec<i64>, Vec<i64>, Vec<i64>, u64) {
        let mut builder = BatchBuilder::new(Alphabet::Dna, bos);
        for bases in sequences {
            builder.push(bases);
        }
        let batch = builder.finish(Device::Cpu);
        let list = |tensor: &Tensor| Vec::<i64>::try_from(tensor).unwrap();
        (
            list(&batch.tokens),
            list(&batch.targets),
            batch.lengths,
            batch.scored,
        )
    }

    #[test]
    fn with_a_beginning_every_base_is_a_target() {
        let (tokens, targets, lengths, scored) = batch(true, &[b"ACGT", b"", b"T"]);
        assert_eq!(tokens, [5, 0, 1, 2, 5]);
        assert_eq!(targets, [0, 1, 2, 3, 3]);
        assert_eq!(lengths, [4, 1]);
        assert_eq!(scored, 5);
    }

    #[test]
    fn without_one_the_first_base_is_none_and_ambiguous_bases_never_are() {
        let (tokens, targets, lengths, scored) = batch(false, &[b"ANGT", b"T", b"CA"]);
        assert_eq!(tokens, [0, 4, 2, 1]);
        assert_eq!(targets, [IGNORED, 2, 3, 0]);
        assert_eq!(lengths, [3, 1]);
        assert_eq!(scored, 3);
    }
}
