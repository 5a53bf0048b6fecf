//! The plots of the report.

use cistron_genome::coord::Strand;
use cistron_report::{Axis, Dot, DotGroup, DotPlot, LinePlot, LogoPlot, ReportError, Series};
use cistron_score::survey::{Estimate, Profile, Rate, StageSurvey, StrandSurvey};

use super::super::summary::Findings;

type Figures = Result<Vec<(String, &'static str)>, ReportError>;

/// Longest chunk that is drawn, in means.
const DRAWN: f64 = 5.0;

fn stages<'a>(
    findings: &'a Findings<'_>,
) -> impl Iterator<Item = (usize, Vec<(Strand, &'a StageSurvey)>)> {
    let count = findings
        .strands
        .first()
        .map_or(0, |strand| strand.stages.len());
    (0..count).map(move |i| {
        let of = |strand: &'a StrandSurvey| (strand.strand, &strand.stages[i]);
        (i + 1, findings.strands.iter().map(of).collect())
    })
}

fn dot(estimate: &Estimate) -> Dot {
    Dot {
        value: estimate.value,
        low: estimate.low,
        high: estimate.high,
    }
}

/// Shares of chunk lengths, beside boundaries thrown at random.
pub(super) fn lengths(findings: &Findings<'_>) -> Figures {
    stages(findings)
        .map(|(number, strands)| {
            let mean = strands
                .iter()
                .map(|(_, stage)| stage.lengths.mean)
                .sum::<f64>()
                / strands.len().max(1) as f64;
            let end = ((DRAWN * mean).ceil() as usize).max(8);
            let mut series: Vec<Series> = strands
                .iter()
                .map(|(strand, stage)| {
                    let total = stage.lengths.chunks.max(1) as f64;
                    // The last count holds all that are longer.
                    let counts = stage.lengths.counts.iter().take(end.min(255));
                    let points = counts.enumerate();
                    let points = points.map(|(i, &n)| ((i + 1) as f64, n as f64 / total));
                    Series::new(format!("strand {strand}"), points)
                })
                .collect();
            let p = 1.0 / mean.max(1.0);
            let chance = (1..=end.min(255)).map(|n| (n as f64, p * (1.0 - p).powi(n as i32 - 1)));
            series.push(Series::new("chance", chance));
            let plot = LinePlot {
                title: format!("Stage {number}: chunk lengths"),
                x: Axis::linear("bases a chunk"),
                y: Axis::linear("share of chunks"),
                series,
                levels: vec![],
            };
            let caption = "Lengths of chunks; chance is a boundary thrown at every base with the \
                           same mean.";
            Ok((plot.svg_narrow()?, caption))
        })
        .collect()
}

/// Boundary rates by kind of base, beside both controls.
pub(super) fn rates(findings: &Findings<'_>) -> Figures {
    let mut figures = Vec::new();
    for (number, strands) in stages(findings) {
        for (strand, stage) in strands {
            let rows: Vec<String> = stage
                .rates
                .iter()
                .map(|rate| rate.mark.label().to_owned())
                .collect();
            let group = |name: &str, rates: &[Rate]| DotGroup {
                name: name.to_owned(),
                dots: stage
                    .rates
                    .iter()
                    .map(|own| {
                        let found = rates.iter().find(|rate| rate.mark == own.mark);
                        found.map(|rate| dot(&rate.rate))
                    })
                    .collect(),
            };
            let mut groups = vec![
                group("model", &stage.rates),
                group("random order", &stage.random),
            ];
            if !stage.shuffled.is_empty() {
                groups.push(group("shuffled bases", &stage.shuffled));
            }
            let plot = DotPlot {
                title: format!("Stage {number}, strand {strand}"),
                value: Axis::linear("boundaries a base"),
                rows,
                groups,
            };
            figures.push((plot.svg()?, "Dots are rates, lines 95 % intervals."));
        }
    }
    Ok(figures)
}

/// Boundary rates around gene ends.
pub(super) fn profiles(findings: &Findings<'_>) -> Figures {
    let mut figures = Vec::new();
    for (number, strands) in stages(findings) {
        type Pick = fn(&StageSurvey) -> &Profile;
        let kinds: [(&str, Pick); 2] = [
            ("start codons", |stage| &stage.around_start),
            ("stop codons", |stage| &stage.around_stop),
        ];
        for (what, pick) in kinds {
            let series = strands.iter().map(|(strand, stage)| {
                let profile = pick(stage);
                let points = (profile.first..).zip(&profile.rates);
                Series::new(
                    format!("strand {strand}"),
                    points.map(|(x, &y)| (x as f64, y)),
                )
            });
            let plot = LinePlot {
                title: format!("Stage {number}: {what}"),
                x: Axis::linear("offset from the first base, bases"),
                y: Axis::linear("boundaries a base"),
                series: series.collect(),
                levels: vec![],
            };
            figures.push((plot.svg_narrow()?, "Mean over all whole genes of a strand."));
        }
    }
    Ok(figures)
}

/// Logos around boundaries.
pub(super) fn logos(findings: &Findings<'_>) -> Figures {
    let mut figures = Vec::new();
    for (number, strands) in stages(findings) {
        for (strand, stage) in strands {
            let logo = &stage.logo;
            let columns = logo.counts.iter().zip(&logo.bits).map(|(counts, bits)| {
                let total = counts.iter().sum::<u64>().max(1) as f64;
                counts.map(|count| bits * count as f64 / total)
            });
            let plot = LogoPlot {
                title: format!("Stage {number}, strand {strand}"),
                x: Axis::linear("offset from the first base of a chunk, bases"),
                y: Axis::linear("bits"),
                first: logo.first,
                columns: columns.collect(),
            };
            figures.push((
                plot.svg()?,
                "Letters are as tall as their share of the information.",
            ));
        }
    }
    Ok(figures)
}

/// Information and entropy by kind of base.
pub(super) fn information(findings: &Findings<'_>) -> Figures {
    findings
        .strands
        .iter()
        .map(|strand| {
            let found = &strand.information;
            let group =
                |name: &str, pick: fn(&cistron_score::survey::InformationOf) -> &Estimate| {
                    DotGroup {
                        name: name.to_owned(),
                        dots: found.iter().map(|found| Some(dot(pick(found)))).collect(),
                    }
                };
            let plot = DotPlot {
                title: format!("Strand {}", strand.strand),
                value: Axis::linear("bits a base"),
                rows: found
                    .iter()
                    .map(|found| found.mark.label().to_owned())
                    .collect(),
                groups: vec![
                    group("information", |found| &found.information),
                    group("entropy", |found| &found.entropy),
                ],
            };
            Ok((plot.svg()?, "Means with 95 % intervals."))
        })
        .collect()
}
