//! Points with a name.

use serde::{Deserialize, Serialize};

use crate::coordinate::Coordinate;
use crate::{Axis, ReportError};

/// A named sequence of points. Points that are not finite are left out; a line is broken
/// there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The points (x, y), in drawing order.
    pub points: Vec<(f64, f64)>,
    /// Whether a plot of lines draws it with dashes in the colour of the series before it.
    #[serde(default)]
    pub beside: bool,
}

impl Series {
    /// The series `name` of `points`.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points: points.into_iter().collect(),
            beside: false,
        }
    }

    /// The same, to be compared with the series before it: a plot of lines draws it with dashes
    /// in that one's colour.
    #[must_use]
    pub fn beside(self) -> Self {
        Self {
            beside: true,
            ..self
        }
    }

    /// The finite points, in unbroken stretches.
    pub(crate) fn stretches(&self) -> impl Iterator<Item = &[(f64, f64)]> {
        self.points
            .split(|(x, y)| !x.is_finite() || !y.is_finite())
            .filter(|stretch| !stretch.is_empty())
    }

    /// The finite points.
    pub(crate) fn finite(&self) -> impl Iterator<Item = (f64, f64)> {
        self.stretches().flatten().copied()
    }
}

/// The axes with ranges that hold every point of `series`, and the values `also` on y.
pub(crate) fn fit(
    title: &str,
    axes: (&Axis, &Axis),
    series: &[Series],
    also: impl IntoIterator<Item = (String, f64)>,
) -> Result<(Coordinate, Coordinate), ReportError> {
    fit_with(title, axes, series, also, 9)
}

/// As [`fit`], with about `ticks` ticks on x.
pub(crate) fn fit_with(
    title: &str,
    axes: (&Axis, &Axis),
    series: &[Series],
    also: impl IntoIterator<Item = (String, f64)>,
    ticks: usize,
) -> Result<(Coordinate, Coordinate), ReportError> {
    let of = |pick: fn((f64, f64)) -> f64| {
        series
            .iter()
            .flat_map(move |s| s.finite().map(move |point| (s.name.clone(), pick(point))))
    };
    let x = axes.0.fit(title, of(|p| p.0), ticks)?;
    let y = axes.1.fit(title, of(|p| p.1).chain(also), 7)?;
    Ok((x, y))
}
