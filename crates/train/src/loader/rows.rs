//! What the rows of a batch hold: sequences of windows up to a number of tokens.

use std::ops::Range;

use cistron_genome::alphabet::Alphabet;
use cistron_genome::corpus::{Corpus, CorpusContig};
use cistron_genome::revcomp;

use super::Contigs;
use crate::TrainError;
use crate::batch::{BatchBuilder, HostBatch};
use crate::config::{DataConfig, LongRangeConfig, Method};
use crate::sampler::{Place, Sampler, Stretch, Window};

/// One sequence of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The bases that are targets, and without a beginning token the one before them.
    pub window: Window,
    /// Whether the base before the window is read too, in place of the beginning token.
    pub lead: bool,
    /// Whether the sequence may begin from a state.
    pub continues: bool,
}

/// Everything that decides and reads the rows of training batches.
#[derive(Debug)]
pub(super) struct Rows {
    pub corpus: Corpus,
    pub data: DataConfig,
    pub long_range: LongRangeConfig,
    pub alphabet: Alphabet,
    pub contigs: Contigs,
    pub sampler: Sampler,
    /// Size of the vocabulary where tokens that begin a codon are marked.
    pub marks: Option<u8>,
}

impl Rows {
    /// The sequences of row `i` at one place of the run: a function of seed and place.
    pub fn pieces(&self, place: Place, i: u64) -> Vec<Piece> {
        let number = place.number(i, self.data.batch);
        let mut pieces = vec![self.first(place, i, number)];
        let mut left = self.data.length - self.tokens(&pieces[0]);
        while self.data.pack && left > 0 {
            let stream = pieces.len() as u64;
            let bases = BatchBuilder::bases(left, self.data.bos);
            let piece = fresh(self.sampler.pick(number, stream, bases));
            left -= self.tokens(&piece);
            pieces.push(piece);
        }
        pieces
    }

    fn first(&self, place: Place, i: u64, number: u64) -> Piece {
        let (data, long) = (&self.data, &self.long_range);
        let given = long.gives(place.step);
        if long.method == Method::Tbptt && long.keeps(place.step) {
            let (row, rows) = (place.row(i, data.batch), place.rows(data.batch));
            let plan = Stretch {
                windows: long.windows,
                stride: data.length,
                tail: u64::from(!data.bos),
            };
            let (window, at) = self.sampler.stretch(row, rows, place.step, plan);
            let continues = given && at > 0;
            return Piece {
                window,
                lead: continues && data.bos,
                continues,
            };
        }
        if !given || self.sampler.from_nothing(number, long.from_nothing) {
            return fresh(self.sampler.window(number));
        }
        if !data.bos {
            let window = self.sampler.window(number);
            return Piece {
                continues: true,
                ..fresh(window)
            };
        }
        let whole = self.sampler.pick(number, 0, data.length + 1);
        if whole.length < 2 {
            return fresh(whole);
        }
        // The base before the window is on its left, on the reverse strand on its right.
        let window = Window {
            start: whole.start + u64::from(!whole.reverse),
            length: whole.length - 1,
            ..whole
        };
        Piece {
            window,
            lead: true,
            continues: true,
        }
    }

    /// Tokens of a piece, which are as many as its targets.
    fn tokens(&self, piece: &Piece) -> u64 {
        piece.window.length - u64::from(!self.data.bos)
    }

    /// An empty batch.
    pub fn builder(&self) -> BatchBuilder {
        let builder = BatchBuilder::new(self.alphabet, self.data.bos);
        match self.marks {
            Some(vocabulary) => builder.marking(vocabulary),
            None => builder,
        }
    }

    /// Reads the bases `range` of a contig in one direction, in lower case where a codon begins
    /// and that is to be marked.
    pub fn letters(
        &self,
        contig: CorpusContig<'_>,
        range: Range<u64>,
        reverse: bool,
        bases: &mut Vec<u8>,
    ) -> Result<(), TrainError> {
        contig.read(range.clone(), bases)?;
        if reverse {
            *bases = revcomp(bases);
        }
        if self.marks.is_some()
            && let Some(mut borders) = contig.codon_borders(range.start..range.end + 1)?
        {
            // What lies before a base on the one strand lies after it on the other.
            if reverse {
                borders.reverse();
            }
            for (base, begins) in bases.iter_mut().zip(borders) {
                if begins {
                    base.make_ascii_lowercase();
                }
            }
        }
        Ok(())
    }

    /// The batch at one place of the run.
    pub fn read(&self, place: Place) -> Result<HostBatch, TrainError> {
        let mut builder = self.builder();
        let mut bases = Vec::new();
        for i in 0..self.data.batch {
            for piece in self.pieces(place, i) {
                let Piece {
                    window,
                    lead,
                    continues,
                } = piece;
                let (genome, contig) = self.contigs.indices[window.contig];
                let (before, after) = (
                    u64::from(lead && !window.reverse),
                    u64::from(lead && window.reverse),
                );
                let range = window.start - before..window.start + window.length + after;
                let contig = self.corpus.contig(genome, contig);
                self.letters(contig, range, window.reverse, &mut bases)?;
                if continues {
                    builder.push_after(&bases, true);
                } else {
                    builder.push(&bases);
                }
            }
            builder.end_row();
        }
        Ok(builder.host())
    }
}

/// A sequence that begins from nothing.
fn fresh(window: Window) -> Piece {
    Piece {
        window,
        lead: false,
        continues: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::Loader;
    use crate::testing;
    use cistron_genome::corpus::CorpusBuilder;
    use cistron_model::Chunking;
    use tch::Device;

    fn place(step: u64) -> Place {
        Place {
            step,
            part: 0,
            parts: 1,
            rank: 0,
            world: 1,
        }
    }

    fn data(bos: bool) -> DataConfig {
        DataConfig {
            length: 48,
            batch: 3,
            bos,
            ..DataConfig::default()
        }
    }

    fn with<T>(data: &DataConfig, long: &LongRangeConfig, f: impl FnOnce(&Loader<'_>) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(&testing::corpus(folder.path())).unwrap();
        let loader = Loader::new(&corpus, data, Alphabet::Dna, 3, Device::Cpu).unwrap();
        f(&loader.with_long_range(long))
    }

    #[test]
    fn rows_hold_as_many_tokens_as_asked_for() {
        for bos in [true, false] {
            with(&data(bos), &LongRangeConfig::default(), |loader| {
                let mut several = 0;
                for step in 0..60 {
                    let batch = loader.batch(place(step)).unwrap();
                    assert_eq!(batch.lengths.iter().sum::<i64>(), 3 * 48);
                    assert_eq!(batch.rows.last(), Some(&2));
                    several += usize::from(batch.lengths.len() > 3);
                }
                assert!(several > 0, "the contig of 20 bases shares its row");
            });
        }
    }

    /// Rows read on where they were, over both strands and whatever the beginning.
    #[test]
    fn stretches_are_consecutive() {
        let long = LongRangeConfig {
            method: Method::Tbptt,
            windows: 4,
            from_step: 2,
            ..LongRangeConfig::default()
        };
        for bos in [true, false] {
            with(&data(bos), &long, |loader| {
                let rows = &loader.rows;
                let ascii = |piece: &Piece| {
                    let (genome, contig) = rows.contigs.indices[piece.window.contig];
                    let range = piece.window.start..piece.window.start + piece.window.length;
                    let mut bases = Vec::new();
                    let contig = rows.corpus.contig(genome, contig);
                    contig.read(range, &mut bases).unwrap();
                    if piece.window.reverse {
                        bases = revcomp(&bases);
                    }
                    bases
                };
                let (mut continued, mut reverse) = (0, 0);
                for step in 0..80 {
                    for i in 0..3 {
                        let now = rows.pieces(place(step), i)[0];
                        if !now.continues {
                            continue;
                        }
                        assert!(step > 2);
                        let pieces = rows.pieces(place(step - 1), i);
                        assert_eq!(pieces.len(), 1, "the row before is one sequence");
                        let before = pieces[0];
                        assert_eq!(before.window.contig, now.window.contig);
                        assert_eq!(before.window.reverse, now.window.reverse);
                        continued += 1;
                        reverse += usize::from(now.window.reverse);
                        let overlap = u64::from(!bos);
                        let (left, right) = match now.window.reverse {
                            false => (before.window, now.window),
                            true => (now.window, before.window),
                        };
                        assert_eq!(left.start + left.length, right.start + overlap);
                        // The batch has the bases before the window where the tokens begin.
                        let batch = loader.batch(place(step)).unwrap();
                        let row = batch.rows.iter().position(|row| *row == i as i64).unwrap();
                        let at: i64 = batch.lengths[..row].iter().sum();
                        let first = batch.tokens.int64_value(&[at]);
                        let expected = match bos {
                            true => *ascii(&before).last().unwrap(),
                            false => ascii(&now)[0],
                        };
                        assert_eq!(first, i64::from(Alphabet::Dna.encode(expected)));
                        assert!(batch.continues[row]);
                    }
                }
                assert!(continued > 60 && reverse > 10, "{continued} {reverse}");
            });
        }
    }

    #[test]
    fn windows_of_other_methods_begin_after_a_base_now_and_then() {
        let long = LongRangeConfig {
            method: Method::StatePassing,
            from_nothing: 0.25,
            ..LongRangeConfig::default()
        };
        with(&data(true), &long, |loader| {
            let first = loader.batch(place(0)).unwrap();
            assert!(!first.continues.contains(&true));
            let (mut given, mut all) = (0, 0);
            for step in 1..200 {
                for i in 0..3 {
                    let pieces = loader.rows.pieces(place(step), i);
                    given += usize::from(pieces[0].continues);
                    all += 1;
                    assert!(pieces[1..].iter().all(|piece| !piece.continues));
                }
            }
            let share = f64::from(given as u32) / f64::from(all);
            assert!((share - 0.75).abs() < 0.06, "{share}");
        });
    }

    /// On both strands the marked tokens begin the codons of a gene.
    #[test]
    fn codons_are_marked_on_both_strands() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // A gene from end to end, whose codons are ATG, then CCC to the end.
        let gene = format!("ATG{}", "CCC".repeat(40));
        std::fs::write(path("a.fna"), format!(">c\n{gene}\n")).unwrap();
        let line = format!("c\tx\tCDS\t1\t{}\t.\t+\t0\tID=a\n", gene.len());
        std::fs::write(path("a.gff3"), line).unwrap();
        std::fs::write(path("t.tsv"), "fasta\tgff\na.fna\ta.gff3\n").unwrap();
        let builder = CorpusBuilder::new().table(&path("t.tsv")).unwrap();
        let corpus = builder.codons(true).build(&path("corpus")).unwrap();
        let mut model = testing::model(0).config().clone();
        model.cistron.chunking = Chunking::Codons;
        let data = DataConfig {
            length: 123,
            batch: 4,
            ..DataConfig::default()
        };
        let loader = Loader::new(&corpus, &data, Alphabet::Dna, 3, Device::Cpu).unwrap();
        let loader = loader.with_chunks_of(&model).unwrap();
        let (mut forward, mut reverse) = (0, 0);
        for step in 0..10 {
            let batch = loader.batch(place(step)).unwrap();
            let tokens = Vec::<i64>::try_from(&batch.tokens).unwrap();
            for row in tokens.chunks(123) {
                let marked: Vec<usize> = (1..row.len()).filter(|&i| row[i] >= 8).collect();
                let codons: Vec<usize> = (1..row.len()).step_by(3).collect();
                assert_eq!(marked, codons);
                match row[1] % 8 {
                    0 => forward += 1,
                    _ => reverse += 1,
                }
            }
        }
        assert!(forward > 0 && reverse > 0);
    }
}
