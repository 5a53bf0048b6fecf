//! The stretch of a sequence that a head sees.

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

/// Positions `start..end` of every sequence; what lies beyond is the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The first position, from 0.
    pub start: usize,
    /// Beyond the last one; `None` is the end of each sequence.
    pub end: Option<usize>,
}

impl View {
    /// All of a sequence.
    pub const WHOLE: Self = Self {
        start: 0,
        end: None,
    };

    /// Leaves out constant ends of sequences of one length, but for `margin` positions beside what
    /// varies.
    pub fn crop(data: &Dataset, margin: usize) -> Self {
        let (shortest, longest) = data.lengths();
        let Some(first) = data.sequences.first() else {
            return Self::WHOLE;
        };
        if shortest != longest {
            return Self::WHOLE;
        }
        let varies = |i: &usize| {
            data.sequences
                .iter()
                .any(|sequence| sequence[*i] != first[*i])
        };
        let (Some(low), Some(high)) = ((0..longest).find(varies), (0..longest).rev().find(varies))
        else {
            return Self::WHOLE;
        };
        Self {
            start: low.saturating_sub(margin),
            end: Some((high + 1 + margin).min(longest)),
        }
    }

    /// The part of `sequence` in view.
    pub fn of<'a>(&self, sequence: &'a [u8]) -> &'a [u8] {
        let end = self.end.unwrap_or(sequence.len()).min(sequence.len());
        &sequence[self.start.min(end)..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Columns, Task};

    #[test]
    fn constant_ends_are_out_of_view() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let mut text = "s,y\n".to_owned();
        for i in 0..20 {
            let letter = |i: usize| char::from(b"ACGT"[i % 4]);
            let (a, b) = (letter(i), letter(i / 4));
            text += &format!("TTTTTTTT{a}C{b}{}GGGGGGG,{i}\n", letter(i / 16));
        }
        std::fs::write(&path, text).unwrap();
        let columns = Columns {
            sequence: Some("s".into()),
            targets: vec!["y".into()],
            ..Columns::default()
        };
        let data = Dataset::read(&path, &columns, Task::Regression).unwrap();
        let view = View::crop(&data, 3);
        assert_eq!(
            view,
            View {
                start: 5,
                end: Some(15)
            }
        );
        assert_eq!(
            data.alphabet.text(view.of(&data.sequences[0])),
            "TTTACAAGGG"
        );
        assert_eq!(View::WHOLE.of(&data.sequences[0]).len(), 19);
    }
}
