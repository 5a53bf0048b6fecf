//! Stretches of one letter other than A, C, G and T.

use super::packing::is_packable;

/// Length of a run in `runs.bin`, bytes.
pub(super) const RUN_BYTES: usize = 16;

/// One stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// First base, counted from the start of `bases.2bit`.
    pub start: u64,
    /// Number of bases, at least one.
    pub len: u32,
    /// The letter.
    pub letter: u8,
}

impl Run {
    /// After the last base.
    pub fn end(self) -> u64 {
        self.start.saturating_add(u64::from(self.len))
    }

    fn to_bytes(self) -> [u8; RUN_BYTES] {
        let mut bytes = [0; RUN_BYTES];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12] = self.letter;
        bytes
    }

    fn from_bytes(bytes: &[u8; RUN_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, letter, ..] = *bytes;
        Self {
            start: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            len: u32::from_le_bytes([i, j, k, l]),
            letter,
        }
    }
}

/// Finds runs in bases that come piece by piece.
#[derive(Default)]
pub(super) struct RunFinder {
    open: Option<Run>,
    /// Number of runs so far, without the open one.
    pub count: u64,
    /// Number of bases in runs so far.
    pub bases: u64,
}

impl RunFinder {
    /// Looks through `bases`, the first of which is the base `start`; appends the runs that
    /// end to `done`, as bytes of `runs.bin`.
    pub fn scan(&mut self, start: u64, bases: &[u8], done: &mut Vec<u8>) {
        let mut index = start;
        for stretch in bases.chunk_by(|a, b| a == b) {
            if !is_packable(stretch[0]) {
                for part in stretch.chunks(u32::MAX as usize) {
                    self.add(index, part.len() as u32, part[0], done);
                    index += part.len() as u64;
                }
            } else {
                index += stretch.len() as u64;
            }
        }
    }

    fn add(&mut self, start: u64, len: u32, letter: u8, done: &mut Vec<u8>) {
        self.bases += u64::from(len);
        if let Some(open) = &mut self.open
            && open.end() == start
            && open.letter == letter
            && let Some(joined) = open.len.checked_add(len)
        {
            open.len = joined;
            return;
        }
        self.close(done);
        self.open = Some(Run { start, len, letter });
    }

    /// Ends the open run, if there is one: the contig is over.
    pub fn close(&mut self, done: &mut Vec<u8>) {
        if let Some(run) = self.open.take() {
            done.extend_from_slice(&run.to_bytes());
            self.count += 1;
        }
    }
}

/// The runs of a corpus, as mapped.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a>(&'a [[u8; RUN_BYTES]]);

impl<'a> Runs<'a> {
    /// Takes the content of `runs.bin`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }

    /// The runs that touch the bases `start..end`.
    pub fn touching(self, start: u64, end: u64) -> impl Iterator<Item = Run> + 'a {
        let first = self
            .0
            .partition_point(|bytes| Run::from_bytes(bytes).end() <= start);
        self.0[first..]
            .iter()
            .map(Run::from_bytes)
            .take_while(move |run| run.start < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_keeps_its_bytes() {
        let run = Run {
            start: 0x0102_0304_0506_0708,
            len: 0x0a0b_0c0d,
            letter: b'N',
        };
        let bytes = run.to_bytes();
        assert_eq!(bytes[0], 8);
        assert_eq!(Run::from_bytes(&bytes), run);
    }

    proptest! {
        #[test]
        fn runs_in_pieces_rebuild_the_bases(
            bases in "[ANNNRA]{0,60}", cut in 0usize..61, from in 0usize..61, to in 0usize..61,
        ) {
            let bases = bases.as_bytes();
            let cut = cut.min(bases.len());
            let mut finder = RunFinder::default();
            let mut bytes = Vec::new();
            finder.scan(100, &bases[..cut], &mut bytes);
            finder.scan(100 + cut as u64, &bases[cut..], &mut bytes);
            finder.close(&mut bytes);
            prop_assert_eq!(finder.count as usize * RUN_BYTES, bytes.len());

            let (start, end) = (from.min(to).min(bases.len()), from.max(to).min(bases.len()));
            let mut rebuilt = vec![b'A'; bases.len()];
            for run in Runs::new(&bytes).touching(100 + start as u64, 100 + end as u64) {
                let first = run.start as usize - 100;
                rebuilt[first..first + run.len as usize].fill(run.letter);
            }
            prop_assert_eq!(&rebuilt[start..end], &bases[start..end]);
            let ambiguous = bases.iter().filter(|base| **base != b'A').count();
            prop_assert_eq!(finder.bases, ambiguous as u64);
        }
    }
}
