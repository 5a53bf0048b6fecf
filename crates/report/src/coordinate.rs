//! A fitted axis: where its values lie, and its ticks.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::Scale;

/// A fitted axis: its range with ticks, as the drawing library wants it.
#[derive(Clone, Debug)]
pub(crate) struct Coordinate {
    scale: Scale,
    range: Range<f64>,
    ticks: Vec<f64>,
    /// Decimal place of the ticks' last digit (`-3`: thousands); without, each has one digit.
    last_place: Option<i32>,
}

impl Coordinate {
    /// `range` on `scale` with at most about `count` ticks.
    pub fn new(scale: Scale, range: Range<f64>, count: usize) -> Self {
        let decades = match scale {
            Scale::Linear => vec![],
            Scale::Log => log_ticks(&range, count),
        };
        let by_decades = decades.len() >= 2;
        let ticks = if by_decades {
            decades
        } else {
            linear_ticks(&range, count)
        };
        let smallest = ticks
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .fold(f64::INFINITY, f64::min);
        let last_place = if smallest.is_finite() {
            -(smallest * 1.000_001).log10().floor() as i32
        } else {
            3
        };
        Self {
            scale,
            range,
            ticks,
            last_place: (!by_decades).then_some(last_place),
        }
    }

    /// Where values are drawn that lie outside.
    pub fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.range.start, self.range.end)
    }

    /// Number of characters of the longest tick label.
    pub fn label_length(&self) -> usize {
        let lengths = self.ticks.iter().map(|tick| self.label(*tick).len());
        lengths.max().unwrap_or(0)
    }

    fn label(&self, value: f64) -> String {
        let size = value.abs();
        if size != 0.0 && !(1e-4..1e6).contains(&size) {
            return self.exponent(value);
        }
        let text = match self.last_place {
            Some(place) => format!("{value:.*}", place.clamp(0, 12) as usize),
            // Ticks have one digit; more would be those of rounding.
            None => format!("{:.*}", (-size.log10().floor()).max(0.0) as usize, value),
        };
        // "-0.0" is not what an axis should say.
        if text.trim_start_matches(['-', '0', '.']).is_empty() {
            "0".to_owned()
        } else {
            text
        }
    }

    /// `value` with a power of ten and the digits that tell it from other ticks: `2.5e6`.
    fn exponent(&self, value: f64) -> String {
        let power = value.abs().log10().floor() as i32;
        let places = self.last_place.map_or(0, |place| power + place);
        let text = format!("{value:.*e}", places.clamp(0, 15) as usize);
        match text.split_once('e') {
            Some((digits, power)) if digits.contains('.') => {
                let digits = digits.trim_end_matches('0').trim_end_matches('.');
                format!("{digits}e{power}")
            }
            _ => text,
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten, at most `count + 1` of them.
fn linear_ticks(range: &Range<f64>, count: usize) -> Vec<f64> {
    let rough = (range.end - range.start) / count as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough * 0.999_999)
        .unwrap_or(10.0 * power);
    let slack = 1e-9;
    let first = (range.start / step - slack).ceil() as i64;
    let last = (range.end / step + slack).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Powers of ten; with 2 and 5 times each when there are few, every n-th when many.
fn log_ticks(range: &Range<f64>, count: usize) -> Vec<f64> {
    let (low, high) = (range.start.log10(), range.end.log10());
    let factors: &[f64] = if high - low < 3.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let every = ((high - low) / count as f64).ceil().max(1.0) as i32;
    let inside = range.start * 0.999_999..=range.end * 1.000_001;
    (low.floor() as i32..=high.ceil() as i32)
        .filter(|power| power % every == 0)
        .flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)))
        .filter(|tick| inside.contains(tick))
        .collect()
}

impl Ranged for Coordinate {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let place = |value| self.scale.forward(value);
        let (low, high) = (place(self.range.start), place(self.range.end));
        let share = (place(self.clamp(*value)) - low) / (high - low);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Coordinate {
    fn format_ext(&self, value: &f64) -> String {
        self.label(*value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Axis;
    use proptest::prelude::*;

    fn labels(axis: &Axis, low: f64, high: f64) -> Vec<String> {
        let axis = axis.clone().with_range(low, high);
        let values = [(String::new(), low), (String::new(), high)];
        let c = axis.fit("t", values.into_iter(), 7).unwrap();
        c.ticks.iter().map(|t| c.format_ext(t)).collect()
    }

    #[test]
    fn linear_ticks_are_round() {
        let axis = Axis::linear("x");
        assert_eq!(
            labels(&axis, 1.88, 2.01),
            ["1.88", "1.90", "1.92", "1.94", "1.96", "1.98", "2.00"]
        );
        assert_eq!(
            labels(&axis, -1.0, 1.0),
            ["-1.0", "-0.5", "0", "0.5", "1.0"]
        );
        assert_eq!(
            labels(&axis, 0.0, 30_000.0),
            ["0", "5000", "10000", "15000", "20000", "25000", "30000"]
        );
        assert_eq!(labels(&axis, 0.0, 4.6e6).last().unwrap(), "4e6");
        assert_eq!(labels(&axis, 0.0, 3e-5)[1], "5e-6");
        assert_eq!(labels(&axis, 414_345_321.0, 415_322_883.0)[1], "4.146e8");
    }

    #[test]
    fn log_ticks_are_decades_or_their_parts() {
        let axis = Axis::log("x");
        assert_eq!(labels(&axis, 1.0, 1e4), ["1", "10", "100", "1000", "10000"]);
        assert_eq!(labels(&axis, 3.0, 150.0), ["5", "10", "20", "50", "100"]);
        assert_eq!(
            labels(&axis, 1e-3, 0.1),
            ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]
        );
        assert_eq!(labels(&axis, 1e-12, 1e12).len(), 7);
        // Too narrow for powers of ten.
        assert_eq!(
            labels(&axis, 1.1, 1.6),
            ["1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]
        );
    }

    proptest! {
        #[test]
        fn every_value_has_a_place_and_ticks_are_few(
            values in prop::collection::vec(1e-9..1e9_f64, 1..20),
            log: bool,
        ) {
            let axis = if log { Axis::log("x") } else { Axis::linear("x") };
            let named = values.iter().map(|v| (String::new(), *v));
            let c = axis.fit("t", named, 7).unwrap();
            prop_assert!((2..=12).contains(&c.ticks.len()), "{:?}", c);
            for value in values {
                prop_assert!(c.range.contains(&value));
                let pixel = c.map(&value, (100, 900));
                prop_assert!((100..=900).contains(&pixel));
            }
            let mut unique: Vec<String> = c.ticks.iter().map(|t| c.format_ext(t)).collect();
            unique.dedup();
            prop_assert_eq!(unique.len(), c.ticks.len(), "{:?}", unique);
        }
    }
}
