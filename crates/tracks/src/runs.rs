//! Runs of equal values.

use crate::TrackError;
use std::path::Path;

/// Consecutive bases with one value; zero-based, half-open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    pub start: u64,
    pub end: u64,
    pub value: f32,
}

/// Collapses the values of one contig to runs. A base without value ends a run and
/// belongs to none.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    open: Option<Run>,
    position: u64,
}

impl Runs {
    /// Takes the next base's value; the result is the run that it ended, if any.
    /// Two values are equal when their bits are.
    pub fn push(&mut self, value: Option<f32>) -> Option<Run> {
        let start = self.position;
        self.position += 1;
        match (&mut self.open, value) {
            (Some(run), Some(value)) if run.value.to_bits() == value.to_bits() => {
                run.end += 1;
                None
            }
            (open, value) => {
                let ended = open.take();
                *open = value.map(|value| Run {
                    start,
                    end: start + 1,
                    value,
                });
                ended
            }
        }
    }

    /// The last run, at the end of the contig; the next value starts a new contig.
    pub fn finish(&mut self) -> Option<Run> {
        std::mem::take(self).open
    }
}

/// Checks that the values of `contig` from base `start` (zero-based) are finite.
pub(crate) fn require_finite(
    path: &Path,
    contig: &str,
    start: u64,
    values: &[f32],
) -> Result<(), TrackError> {
    match (start + 1..).zip(values).find(|(_, v)| !v.is_finite()) {
        None => Ok(()),
        Some((position, &value)) => Err(TrackError::NotFinite {
            path: path.to_path_buf(),
            contig: contig.to_owned(),
            position,
            value,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collapse(values: &[Option<f32>]) -> Vec<Run> {
        let mut runs = Runs::default();
        let mut all: Vec<Run> = values.iter().filter_map(|&v| runs.push(v)).collect();
        all.extend(runs.finish());
        all
    }

    #[test]
    fn gaps_and_signed_zeros_end_runs() {
        let run = |start, end, value| Run { start, end, value };
        let values = [Some(1.0), Some(1.0), None, Some(1.0), Some(0.0), Some(-0.0)];
        assert_eq!(
            collapse(&values),
            [
                run(0, 2, 1.0),
                run(3, 4, 1.0),
                run(4, 5, 0.0),
                run(5, 6, -0.0)
            ]
        );
        assert_eq!(collapse(&[None, None]), []);
        assert_eq!(collapse(&[]), []);
    }

    proptest! {
        #[test]
        fn runs_expand_to_the_values(values in prop::collection::vec(
            prop::option::of(prop::sample::select(vec![0.0_f32, 0.5, 1.0])), 0..60))
        {
            let mut expanded = vec![None; values.len()];
            let runs = collapse(&values);
            for run in &runs {
                expanded[run.start as usize..run.end as usize].fill(Some(run.value));
            }
            prop_assert_eq!(expanded, values);
            for pair in runs.windows(2) {
                prop_assert!(pair[0].end < pair[1].start || pair[0].value != pair[1].value);
            }
        }
    }
}
