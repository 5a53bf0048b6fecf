//! The part of a sequence that a head sees.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

/// Up to this many positions that vary, a head reads them alone.
pub const FEW: usize = 12;
/// Constant letters that are read beside more positions than that.
const BESIDE: usize = 8;

/// What a head reads of sequences of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Margin {
    /// The positions that vary where they are few, else these and constant letters beside them.
    Auto,
    /// From the first position that varies to the last, and so many constant letters beside.
    Letters(usize),
    /// All of it.
    All,
}

/// The positions that a head reads; what lies beyond is the same in all sequences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The first position, from 0.
    pub start: usize,
    /// Beyond the last one; `None` is the end of each sequence.
    pub end: Option<usize>,
    /// These positions alone, where there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<usize>,
}

impl View {
    /// Leaves out what is the same in all sequences, as far as `margin` says; nothing where lengths
    /// differ.
    pub fn of_data(data: &Dataset, margin: Margin) -> Self {
        let (shortest, longest) = data.lengths();
        let whole = Self::default();
        let Some(first) = data.sequences.first() else {
            return whole;
        };
        if shortest != longest || margin == Margin::All {
            return whole;
        }
        let varies = |i: &usize| {
            data.sequences
                .iter()
                .any(|sequence| sequence[*i] != first[*i])
        };
        let sites: Vec<usize> = (0..longest).filter(varies).collect();
        let (Some(low), Some(high)) = (sites.first(), sites.last()) else {
            return whole;
        };
        let beside = match margin {
            Margin::Letters(beside) => beside,
            _ => BESIDE,
        };
        let few = margin == Margin::Auto && sites.len() <= FEW;
        let beside = if few { 0 } else { beside };
        Self {
            start: low.saturating_sub(beside),
            end: Some((high + 1 + beside).min(longest)),
            sites: if few { sites } else { Vec::new() },
        }
    }

    /// The part of `sequence` in view.
    pub fn of<'a>(&self, sequence: &'a [u8]) -> Cow<'a, [u8]> {
        if self.sites.is_empty() {
            let end = self.end.unwrap_or(sequence.len()).min(sequence.len());
            return Cow::Borrowed(&sequence[self.start.min(end)..end]);
        }
        self.sites.iter().map(|&site| sequence[site]).collect()
    }

    /// The positions in view of a sequence of `length` letters.
    pub fn positions(&self, length: usize) -> Vec<usize> {
        match self.sites.is_empty() {
            true => (self.start..self.end.unwrap_or(length).min(length)).collect(),
            false => self.sites.clone(),
        }
    }

    /// Whether a position is in view.
    pub fn has(&self, position: usize) -> bool {
        match self.sites.is_empty() {
            true => position >= self.start && self.end.is_none_or(|end| position < end),
            false => self.sites.contains(&position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Columns, Task};

    #[test]
    fn what_is_constant_is_out_of_view() {
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
        let view = View::of_data(&data, Margin::Letters(3));
        let text = |view: &View| data.alphabet.text(&view.of(&data.sequences[0]));
        assert_eq!((view.start, view.end), (5, Some(15)));
        assert_eq!(text(&view), "TTTACAAGGG");
        assert!(view.has(5) && !view.has(4) && !view.has(15));
        let sites = View::of_data(&data, Margin::Auto);
        assert_eq!(text(&sites), "AAA");
        assert_eq!(sites.positions(19), [8, 10, 11]);
        assert!(sites.has(10) && !sites.has(9));
        assert_eq!(text(&View::of_data(&data, Margin::All)).len(), 19);
    }
}
