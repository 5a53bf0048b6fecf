//! One packed batch of tokens with the targets of each.

use cistron_genome::alphabet::Alphabet;
use cistron_model::State;
use tch::{Device, Kind, Tensor};

/// Target of a token whose next base is not scored.
pub const IGNORED: i64 = -100;

/// The same while a target has one byte: no token of a base.
const IGNORED_BYTE: u8 = 255;

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
    /// Row of the batch that each sequence is in; a row has one sequence, or several short ones.
    pub rows: Vec<i64>,
    /// Whether each sequence may begin from a state instead of from nothing: its first token is
    /// a base then, and the one before its first target.
    pub continues: Vec<bool>,
    /// The states that sequences begin from; from nothing when none.
    pub initial: Option<State>,
    /// Whether the states after the sequences are wanted.
    pub keep: bool,
}

impl Batch {
    /// A batch of one sequence a row, each from nothing.
    pub fn new(tokens: Tensor, targets: Tensor, lengths: Vec<i64>, scored: u64) -> Self {
        Self {
            tokens,
            targets,
            rows: (0..lengths.len() as i64).collect(),
            continues: vec![false; lengths.len()],
            lengths,
            scored,
            initial: None,
            keep: false,
        }
    }
}

/// A batch in the host's memory, a byte a token.
#[derive(Debug)]
pub struct HostBatch {
    tokens: Tensor,
    targets: Tensor,
    lengths: Vec<i64>,
    scored: u64,
    rows: Vec<i64>,
    continues: Vec<bool>,
}

impl HostBatch {
    /// Puts the batch into memory that `device` copies from without waiting.
    #[must_use]
    pub fn pinned(self, device: Device) -> Self {
        match device {
            Device::Cuda(_) => Self {
                tokens: cistron_kernels::pin(&self.tokens),
                targets: cistron_kernels::pin(&self.targets),
                ..self
            },
            _ => self,
        }
    }

    /// The batch on `device`, where bytes become numbers.
    pub fn to_device(self, device: Device) -> Batch {
        let there = |bytes: &Tensor| {
            let bytes = bytes.to_device_(device, Kind::Uint8, true, false);
            bytes.to_kind(Kind::Int64)
        };
        let targets = there(&self.targets);
        Batch {
            tokens: there(&self.tokens),
            targets: targets.masked_fill(&targets.eq(i64::from(IGNORED_BYTE)), IGNORED),
            lengths: self.lengths,
            scored: self.scored,
            rows: self.rows,
            continues: self.continues,
            initial: None,
            keep: false,
        }
    }
}

/// Collects sequences for a [`Batch`].
#[derive(Debug)]
pub struct BatchBuilder {
    bos: Option<u8>,
    /// Token of each letter.
    token: [u8; 256],
    /// The same where it is a target.
    target: [u8; 256],
    tokens: Vec<u8>,
    targets: Vec<u8>,
    lengths: Vec<i64>,
    rows: Vec<i64>,
    continues: Vec<bool>,
    row: i64,
}

impl BatchBuilder {
    /// An empty batch; with `bos` each sequence begins with the token for its beginning.
    pub fn new(alphabet: Alphabet, bos: bool) -> Self {
        let mut target = [IGNORED_BYTE; 256];
        for base in *b"ACGT" {
            target[usize::from(base)] = alphabet.encode(base);
        }
        Self {
            bos: bos.then(|| alphabet.bos()),
            token: std::array::from_fn(|letter| alphabet.encode(letter as u8)),
            target,
            tokens: Vec::new(),
            targets: Vec::new(),
            lengths: Vec::new(),
            rows: Vec::new(),
            continues: Vec::new(),
            row: 0,
        }
    }

    /// The same, where a letter in lower case gets a token that is `vocabulary` higher: a model of
    /// [`Chunking::Codons`](cistron_model::Chunking) starts a chunk there.
    #[must_use]
    pub fn marking(mut self, vocabulary: u8) -> Self {
        for letter in b'a'..=b'z' {
            self.token[usize::from(letter)] += vocabulary;
            self.target[usize::from(letter)] =
                self.target[usize::from(letter.to_ascii_uppercase())];
        }
        self
    }

    /// Bases that a sequence of `tokens` tokens needs: the last base is a target alone.
    pub fn bases(tokens: u64, bos: bool) -> u64 {
        tokens + u64::from(!bos)
    }

    /// Adds a sequence of upper-case ASCII bases. One too short to have a target adds nothing.
    pub fn push(&mut self, bases: &[u8]) {
        match self.bos {
            Some(bos) => self.add(Some(bos), bases, bases, false),
            None => self.push_after(bases, false),
        }
    }

    /// Adds a sequence whose first base is no target: it is what the sequence begins after,
    /// in a state of what came before when `continues`.
    pub fn push_after(&mut self, bases: &[u8], continues: bool) {
        self.add(None, bases, bases.get(1..).unwrap_or_default(), continues);
    }

    fn add(&mut self, first: Option<u8>, bases: &[u8], targets: &[u8], continues: bool) {
        if targets.is_empty() {
            return;
        }
        let tokens = &bases[..bases.len() - 1];
        self.tokens.extend(first);
        let token = |base: &u8| self.token[usize::from(*base)];
        self.tokens.extend(tokens.iter().map(token));
        let target = |base: &u8| self.target[usize::from(*base)];
        self.targets.extend(targets.iter().map(target));
        self.lengths.push(targets.len() as i64);
        self.rows.push(self.row);
        self.continues.push(continues);
    }

    /// Begins the next row of the batch.
    pub fn end_row(&mut self) {
        self.row += 1;
    }

    /// The batch, on `device`.
    pub fn finish(self, device: Device) -> Batch {
        self.host().to_device(device)
    }

    /// The batch, in the host's memory.
    pub fn host(self) -> HostBatch {
        let ignored = self.targets.iter().filter(|t| **t == IGNORED_BYTE).count();
        HostBatch {
            scored: (self.targets.len() - ignored) as u64,
            tokens: Tensor::from_slice(&self.tokens),
            targets: Tensor::from_slice(&self.targets),
            lengths: self.lengths,
            rows: self.rows,
            continues: self.continues,
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

    #[test]
    fn small_letters_are_marked_and_told_like_large_ones() {
        let mut builder = BatchBuilder::new(Alphabet::Dna, true).marking(8);
        builder.push(b"aCgTn");
        let batch = builder.finish(Device::Cpu);
        let list = |tensor: &Tensor| Vec::<i64>::try_from(tensor).unwrap();
        assert_eq!(list(&batch.tokens), [5, 8, 1, 10, 3]);
        assert_eq!(list(&batch.targets), [0, 1, 2, 3, IGNORED]);
    }

    #[test]
    fn a_sequence_after_a_base_has_no_beginning() {
        let mut builder = BatchBuilder::new(Alphabet::Dna, true);
        builder.push_after(b"ACNG", true);
        builder.push(b"T");
        builder.end_row();
        builder.push_after(b"A", true);
        builder.push_after(b"GT", false);
        let batch = builder.finish(Device::Cpu);
        let list = |tensor: &Tensor| Vec::<i64>::try_from(tensor).unwrap();
        assert_eq!(list(&batch.tokens), [0, 1, 4, 5, 2]);
        assert_eq!(list(&batch.targets), [1, IGNORED, 2, 3, 3]);
        assert_eq!((batch.lengths, batch.scored), (vec![3, 1, 1], 4));
        assert_eq!(batch.rows, [0, 0, 1]);
        assert_eq!(batch.continues, [true, false, false]);
    }
}
