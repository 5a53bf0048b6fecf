//! Differences of log-likelihood between two alleles, with as little read twice as possible.
//!
//! A causal model reads what lies before an allele in the same way whatever the allele is. That
//! prefix is read once, and each allele from there, over the bases that count. With a grid,
//! variants of one cell share their prefix, which then ends where the cell begins, and the
//! reference, which is read on from there in steps; an alternate begins where the last step
//! before it ends. What a variant shares follows from its position alone, never from which other
//! variants there are.

use std::collections::HashMap;

use cistron_genome::coord::{Strand, Topology};
use cistron_genome::fasta::Contig;
use cistron_genome::revcomp;
use cistron_genome::window::Window;
use cistron_variant::allele::Alleles;
use cistron_variant::status::Status;
use cistron_variant::windows::windows;

use crate::engine::{Branch, Engine, Read, STEP, Tail};
use crate::error::ScoreError;

/// What is read around each variant.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Bases a window, half of them before the variant.
    pub context: usize,
    /// Bases that count from the variant on; to the end of the window when none.
    pub horizon: Option<usize>,
    /// Variants that begin in the same cell of so many bases share their prefix, which is up to
    /// `grid - 1` bases longer than half the context; 1 shares nothing.
    pub grid: usize,
    /// Strands to read; the score is the mean over them.
    pub strands: Vec<Strand>,
}

impl Frame {
    /// # Errors
    ///
    /// A setting is outside its range.
    pub fn check(&self) -> Result<(), ScoreError> {
        let problem = if self.context < 2 {
            "--context: expected 2 or more bases".to_owned()
        } else if self.horizon == Some(0) {
            "--horizon: expected 1 or more bases".to_owned()
        } else if !(1..=self.context / 2).contains(&self.grid) {
            format!(
                "--grid: expected 1 to half the context, {} bases",
                self.context / 2
            )
        } else {
            return Ok(());
        };
        Err(ScoreError::Setting(problem))
    }
}

/// The two alleles of a variant among what is to be read.
#[derive(Debug, Clone)]
pub struct Plan {
    strands: Vec<OneStrand>,
}

impl Plan {
    /// Bases of each allele that count, on the strand where they are fewest.
    pub fn bases(&self) -> usize {
        let counts = self.strands.iter().map(|one| one.count);
        counts.min().unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy)]
struct OneStrand {
    branch: usize,
    reference: Place,
    alternate: Place,
    /// Bases that count.
    count: usize,
}

/// The first base of an allele that counts.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The tail; the branch's reference when none.
    tail: Option<usize>,
    at: usize,
}

/// Prefixes and tails of many variants, each different one once.
#[derive(Debug, Default)]
pub struct Differences {
    branches: Vec<Branch>,
    /// Branches by their prefix and whether their reference is shared.
    prefixes: HashMap<(Vec<u8>, bool), Vec<usize>>,
    tails: HashMap<(usize, Tail), usize>,
}

/// What the model said of them.
#[derive(Debug)]
pub struct Values(Vec<Read>);

impl Differences {
    /// Adds a variant.
    ///
    /// # Errors
    ///
    /// Why it cannot be scored.
    pub fn plan(
        &mut self,
        contig: &Contig,
        alleles: &Alleles,
        frame: &Frame,
    ) -> Result<Plan, Status> {
        let cuts = frame
            .strands
            .iter()
            .map(|&strand| cut(contig, alleles, frame, strand))
            .collect::<Result<Vec<_>, _>>()?;
        let strands = cuts.into_iter().map(|cut| self.add(cut)).collect();
        Ok(Plan { strands })
    }

    fn add(&mut self, cut: Cut) -> OneStrand {
        let branches = &mut self.branches;
        let like =
            |known: &[u8]| known.starts_with(&cut.reference) || cut.reference.starts_with(known);
        let key = (cut.prefix, cut.shared);
        let known = self.prefixes.entry(key.clone()).or_default();
        let found = known
            .iter()
            .find(|&&branch| !cut.shared || like(&branches[branch].reference));
        let branch = found.copied().unwrap_or_else(|| {
            branches.push(Branch {
                prefix: key.0,
                ..Branch::default()
            });
            known.push(branches.len() - 1);
            branches.len() - 1
        });
        let mut tail = |tail: Tail| {
            let known = self.tails.entry((branch, tail));
            *known.or_insert_with_key(|(branch, tail)| {
                let tails = &mut branches[*branch].tails;
                tails.push(tail.clone());
                tails.len() - 1
            })
        };
        let alternate = Place {
            at: cut.lead % STEP,
            tail: Some(tail(Tail {
                step: cut.lead / STEP,
                bases: cut.alternate,
            })),
        };
        let reference = if cut.shared {
            // What one variant of a cell reads further than another is read in further steps.
            let known = &mut branches[branch].reference;
            if known.len() < cut.reference.len() {
                *known = cut.reference;
            }
            Place {
                at: cut.lead,
                tail: None,
            }
        } else {
            Place {
                at: 0,
                tail: Some(tail(Tail {
                    step: 0,
                    bases: cut.reference,
                })),
            }
        };
        OneStrand {
            branch,
            reference,
            alternate,
            count: cut.count,
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// A likelihood is not finite, or the run was stopped.
    pub fn read(&self, engine: &Engine) -> Result<Values, ScoreError> {
        engine.branches(&self.branches).map(Values)
    }
}

impl Values {
    /// Log-likelihood of the alternate minus that of the reference, in nats, as the mean over
    /// strands.
    pub fn of(&self, plan: &Plan) -> f32 {
        self.mean(plan) as f32
    }

    /// As [`Values::of`], unrounded.
    pub fn mean(&self, plan: &Plan) -> f64 {
        let total: f64 = plan.strands.iter().map(|one| self.one(one)).sum();
        total / plan.strands.len() as f64
    }

    /// The difference on each strand, in the order of the frame's.
    pub fn by_strand(&self, plan: &Plan) -> Vec<f32> {
        plan.strands
            .iter()
            .map(|one| self.one(one) as f32)
            .collect()
    }

    fn one(&self, one: &OneStrand) -> f64 {
        let read = &self.0[one.branch];
        let sum = |place: Place| {
            let values = place.tail.map_or(&read.reference, |tail| &read.tails[tail]);
            let counted = &values[place.at..place.at + one.count];
            counted.iter().map(|&value| f64::from(value)).sum::<f64>()
        };
        sum(one.alternate) - sum(one.reference)
    }
}

/// One strand of a variant.
struct Cut {
    prefix: Vec<u8>,
    /// Whether all variants of the cell share the prefix and what follows it.
    shared: bool,
    /// From the end of the prefix to a whole step beyond the last base that counts.
    reference: Vec<u8>,
    /// From the last step before the variant on.
    alternate: Vec<u8>,
    /// Bases between the prefix and the variant.
    lead: usize,
    count: usize,
}

fn cut(contig: &Contig, alleles: &Alleles, frame: &Frame, strand: Strand) -> Result<Cut, Status> {
    let (position, reference) = (alleles.position, &alleles.reference);
    let window = windows(
        contig,
        position,
        reference,
        &alleles.alternate,
        frame.context,
        strand,
    )?;
    let offset = window.variant_offset;
    let length = window.reference.len() - offset;
    let count = frame.horizon.map_or(length, |horizon| horizon.min(length));
    let turn = contig.bases.len();
    // A cell may not use a base of a circular contig twice.
    let wraps = contig.topology == Topology::Circular
        && turn < frame.context + frame.grid + reference.len();
    if frame.grid == 1 || wraps {
        return Ok(Cut {
            prefix: window.reference[..offset].to_vec(),
            shared: false,
            reference: window.reference[offset..offset + count].to_vec(),
            alternate: window.alternate[offset..offset + count].to_vec(),
            lead: 0,
            count,
        });
    }
    // The reverse strand is the forward one of the contig turned round.
    let start = match strand {
        Strand::Forward => position as usize,
        Strand::Reverse => turn - position as usize - reference.len(),
    };
    let bases = |(start, length): (i64, usize)| match strand {
        Strand::Forward => Window::extract(contig, start, length).bases,
        Strand::Reverse => {
            let start = turn as i64 - start - length as i64;
            revcomp(&Window::extract(contig, start, length).bases)
        }
    };
    let lead = start % frame.grid;
    let cell = start - lead;
    let flank = frame.context / 2;
    let before = &window.alternate[offset - lead % STEP..offset];
    Ok(Cut {
        prefix: bases((cell as i64 - flank as i64, flank)),
        shared: true,
        // Whole steps: they are the same for every variant of the cell.
        reference: bases((cell as i64, (lead + count).next_multiple_of(STEP))),
        alternate: [before, &window.alternate[offset..offset + count]].concat(),
        lead,
        count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::engine;

    fn contig(length: u32, topology: Topology) -> Contig {
        let letter = |i: u32| b"ACGT"[(i.wrapping_mul(2_654_435_761) >> 11) as usize % 4];
        Contig {
            name: "c".into(),
            description: String::new(),
            bases: (0..length).map(letter).collect(),
            topology,
        }
    }

    fn variants(contig: &Contig) -> Vec<Alleles> {
        let length = contig.bases.len();
        let mut all = Vec::new();
        for at in (0..length).step_by(7) {
            for (taken, given) in [(1, &b"A"[..]), (1, b"T"), (3, b"G"), (1, b"CCAT")] {
                if at + taken <= length {
                    all.push(Alleles {
                        position: at as u64,
                        reference: contig.bases[at..at + taken].to_vec(),
                        alternate: given.to_vec(),
                    });
                }
            }
        }
        all
    }

    fn frame(grid: usize, horizon: Option<usize>, strand: Strand) -> Frame {
        Frame {
            context: 64,
            horizon,
            grid,
            strands: vec![strand],
        }
    }

    /// What reading both whole windows gives.
    fn whole(engine: &Engine, contig: &Contig, alleles: &Alleles, frame: &Frame) -> Option<f32> {
        let (reference, alternate) = (&alleles.reference, &alleles.alternate);
        let strand = frame.strands[0];
        let w = windows(
            contig,
            alleles.position,
            reference,
            alternate,
            frame.context,
            strand,
        )
        .ok()?;
        let values = engine
            .log_likelihoods(&[&w.reference, &w.alternate])
            .expect("read");
        let sum = |values: &[f32]| {
            let tail = &values[w.variant_offset..];
            let count = frame.horizon.unwrap_or(tail.len()).min(tail.len());
            tail[..count].iter().map(|&v| f64::from(v)).sum::<f64>()
        };
        Some((sum(&values[1]) - sum(&values[0])) as f32)
    }

    fn scores(
        engine: &Engine,
        contig: &Contig,
        variants: &[Alleles],
        frame: &Frame,
    ) -> Vec<Option<f32>> {
        let mut differences = Differences::default();
        let plans: Vec<_> = variants
            .iter()
            .map(|alleles| differences.plan(contig, alleles, frame).ok())
            .collect();
        let values = differences.read(engine).expect("read");
        plans
            .iter()
            .map(|plan| Some(values.of(plan.as_ref()?)))
            .collect()
    }

    #[test]
    fn a_reused_prefix_changes_nothing() {
        let engine = engine();
        for topology in [Topology::Linear, Topology::Circular] {
            let contig = contig(150, topology);
            let variants = variants(&contig);
            for strand in [Strand::Forward, Strand::Reverse] {
                for horizon in [None, Some(1), Some(10)] {
                    let frame = frame(1, horizon, strand);
                    let found = scores(&engine, &contig, &variants, &frame);
                    for (alleles, found) in variants.iter().zip(found) {
                        let expected = whole(&engine, &contig, alleles, &frame);
                        match (found, expected) {
                            (Some(found), Some(expected)) => {
                                assert!((found - expected).abs() < 1e-5, "{alleles:?}");
                            }
                            (found, expected) => assert_eq!(found, expected),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_share_and_do_not_change_each_other() {
        let engine = engine();
        // Cells shorter and longer than a step.
        for (length, context, grid) in [(300, 64, 16), (700, 320, 150)] {
            for topology in [Topology::Linear, Topology::Circular] {
                for strand in [Strand::Forward, Strand::Reverse] {
                    let contig = contig(length as u32, topology);
                    let frame = Frame {
                        context,
                        ..frame(grid, Some(12), strand)
                    };
                    neighbours(&engine, &contig, &frame);
                }
            }
        }
    }

    fn neighbours(engine: &Engine, contig: &Contig, frame: &Frame) {
        let (length, grid) = (contig.bases.len(), frame.grid);
        let variants = variants(contig);
        let mut differences = Differences::default();
        for alleles in &variants {
            let _planned = differences.plan(contig, alleles, frame);
        }
        assert!(differences.branches.len() <= length.div_ceil(grid) + 1);
        let together = scores(engine, contig, &variants, frame);
        for (alleles, together) in variants.iter().zip(together) {
            let one = std::slice::from_ref(alleles);
            assert_eq!(scores(engine, contig, one, frame), [together]);
            // A longer prefix is that of a larger context.
            let Some(together) = together else { continue };
            let start = match frame.strands[0] {
                Strand::Forward => alleles.position as usize,
                Strand::Reverse => length - alleles.position as usize - alleles.reference.len(),
            };
            let wider = Frame {
                context: frame.context + 2 * (start % grid),
                grid: 1,
                ..frame.clone()
            };
            let expected = whole(engine, contig, alleles, &wider).expect("scored");
            assert!((together - expected).abs() < 1e-5, "{alleles:?} {frame:?}");
        }
    }

    #[test]
    fn contigs_that_begin_alike_are_told_apart() {
        let engine = engine();
        let first = contig(200, Topology::Linear);
        let mut second = first.clone();
        second.bases[40..].reverse();
        let frame = frame(32, Some(12), Strand::Forward);
        let variants = &variants(&first)[..24];
        let both = |contigs: [&Contig; 2]| {
            let mut differences = Differences::default();
            let plans = contigs.map(|contig| {
                let plan = |alleles| differences.plan(contig, alleles, &frame).ok();
                variants.iter().map(plan).collect::<Vec<_>>()
            });
            let values = differences.read(&engine).expect("read");
            plans.map(|plans| {
                let of = |plan: &Option<Plan>| plan.as_ref().map(|plan| values.of(plan));
                plans.iter().map(of).collect::<Vec<_>>()
            })
        };
        let [a, b] = both([&first, &second]);
        let [d, c] = both([&second, &first]);
        assert_eq!((&a, &b), (&c, &d));
        assert_eq!(a, scores(&engine, &first, variants, &frame));
        assert_ne!(a, b);
    }
}
