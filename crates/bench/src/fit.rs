//! How a loss falls with what is spent on it: `loss = a + b C^-c`.

use serde::Serialize;

/// A fitted curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fit {
    /// `a`: what no amount goes below.
    pub floor: f64,
    /// `b`, for `C` as it was given.
    pub scale: f64,
    /// `c`.
    pub exponent: f64,
    /// Root of the mean square of what is left.
    pub rms: f64,
}

/// Exponents that are tried, before the best is refined.
const TRIALS: usize = 200;
/// Their range.
const RANGE: (f64, f64) = (0.005, 3.0);

impl Fit {
    /// The curve nearest to the points (C, loss) by least squares, with `a` and `b` not below
    /// zero; none for fewer than three different C.
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        let mut spent: Vec<f64> = points.iter().map(|point| point.0).collect();
        spent.sort_by(f64::total_cmp);
        spent.dedup();
        if spent.len() < 3 || spent[0] <= 0.0 || points.iter().any(|point| !point.1.is_finite()) {
            return None;
        }
        // Powers of C itself leave the range of numbers: the unit is the middle.
        let unit = spent[spent.len() / 2];
        let scaled: Vec<(f64, f64)> = points.iter().map(|(c, loss)| (c / unit, *loss)).collect();
        let ratio = (RANGE.1 / RANGE.0).ln();
        let at = |i: f64| RANGE.0 * (ratio * i / TRIALS as f64).exp();
        let error = |i: f64| line(&scaled, at(i)).2;
        let best = (0..=TRIALS)
            .min_by(|a, b| error(*a as f64).total_cmp(&error(*b as f64)))
            .unwrap_or(0) as f64;
        let (mut low, mut high) = (best - 1.0, best + 1.0);
        for _ in 0..60 {
            let (one, two) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if error(one) < error(two) {
                high = two;
            } else {
                low = one;
            }
        }
        let exponent = at(f64::midpoint(low, high));
        let (floor, scale, error) = line(&scaled, exponent);
        Some(Self {
            floor,
            scale: scale * unit.powf(exponent),
            exponent,
            rms: (error / points.len() as f64).sqrt(),
        })
    }

    /// The loss at `spent`.
    pub fn at(&self, spent: f64) -> f64 {
        self.floor + self.scale * spent.powf(-self.exponent)
    }
}

/// `a`, `b` and the sum of squares for one exponent.
fn line(points: &[(f64, f64)], exponent: f64) -> (f64, f64, f64) {
    let xy = |point: &(f64, f64)| (point.0.powf(-exponent), point.1);
    let n = points.len() as f64;
    let (mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0);
    for (x, y) in points.iter().map(xy) {
        (sx, sy, sxx, sxy) = (sx + x, sy + y, sxx + x * x, sxy + x * y);
    }
    let (mut floor, mut scale) = (sy / n, 0.0);
    let spread = n * sxx - sx * sx;
    if spread > 0.0 {
        scale = (n * sxy - sx * sy) / spread;
        floor = (sy - scale * sx) / n;
    }
    if scale < 0.0 {
        (floor, scale) = (sy / n, 0.0);
    } else if floor < 0.0 {
        (floor, scale) = (0.0, sxy / sxx);
    }
    let squares = points.iter().map(xy).map(|(x, y)| {
        let rest = y - floor - scale * x;
        rest * rest
    });
    (floor, scale, squares.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_found_again() {
        for (a, b, c) in [(1.7, 3e3, 0.25), (0.0, 40.0, 0.08), (1.85, 1e8, 0.7)] {
            let curve = |spent: f64| a + b * spent.powf(-c);
            let points: Vec<(f64, f64)> = [1e12, 3e12, 1e13, 1e14, 1e15]
                .map(|spent| (spent, curve(spent)))
                .to_vec();
            let fit = Fit::of(&points).expect("enough points");
            assert!((fit.exponent - c).abs() < 1e-3 * c, "{fit:?}");
            assert!((fit.floor - a).abs() < 1e-2, "{fit:?}");
            assert!(fit.rms < 1e-6, "{fit:?}");
            assert!((fit.at(1e16) - curve(1e16)).abs() < 1e-3);
        }
    }

    #[test]
    fn few_points_have_no_curve_and_a_rise_is_flat() {
        assert!(Fit::of(&[(1.0, 2.0), (2.0, 1.9), (2.0, 1.8)]).is_none());
        assert!(Fit::of(&[(0.0, 2.0), (2.0, 1.9), (3.0, 1.8)]).is_none());
        let fit = Fit::of(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]).expect("enough points");
        assert_eq!((fit.scale, fit.floor), (0.0, 2.0));
    }
}
