//! What the figures say, in sentences.

use cistron_score::survey::{Mark, Rate, StageSurvey};

use super::super::summary::Findings;

const POSITIONS: [Mark; 3] = [Mark::Codon1, Mark::Codon2, Mark::Codon3];

/// The sentences at the top.
pub(super) fn in_short(findings: &Findings<'_>) -> Vec<String> {
    let mut sentences = Vec::new();
    for strand in &findings.strands {
        for stage in &strand.stages {
            let whole = format!(
                "Stage {}, strand {}: {:.2} bases a chunk.",
                stage.stage, strand.strand, stage.lengths.mean
            );
            let phase = phase(stage).unwrap_or_default();
            let signals = signals(stage);
            sentences.push(format!("{whole}{phase}{signals}"));
        }
    }
    if findings.input.annotation.is_none() {
        sentences
            .push("Without --gff nothing can be said of codons, genes and signals.".to_owned());
    }
    sentences
}

fn rate(rates: &[Rate], mark: Mark) -> Option<&Rate> {
    rates.iter().find(|rate| rate.mark == mark)
}

/// Highest over lowest rate of the three codon positions.
fn spread(rates: &[Rate]) -> Option<f64> {
    let values: Vec<f64> = POSITIONS
        .iter()
        .filter_map(|&mark| rate(rates, mark).map(|rate| rate.rate.value))
        .collect();
    let (low, high) = values
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(l, h), &v| (l.min(v), h.max(v)));
    (values.len() == 3 && low > 0.0).then(|| high / low)
}

fn phase(stage: &StageSurvey) -> Option<String> {
    let found: Vec<&Rate> = POSITIONS
        .iter()
        .filter_map(|&mark| rate(&stage.rates, mark))
        .collect();
    let [one, two, three] = found.as_slice() else {
        return None;
    };
    let shares = format!(
        " At codon positions 1, 2 and 3 a chunk starts with {:.1}, {:.1} and {:.1} %",
        100.0 * one.rate.value,
        100.0 * two.rate.value,
        100.0 * three.rate.value
    );
    let mut order = [one, two, three];
    order.sort_by(|a, b| a.rate.value.total_cmp(&b.rate.value));
    let apart = order[0].rate.high < order[2].rate.low;
    let own = spread(&stage.rates)?;
    let verdict = match (apart, spread(&stage.shuffled)) {
        (false, _) => "; the positions do not differ beyond chance: no codon phase".to_owned(),
        (true, Some(shuffled)) => format!(
            ", a factor of {own:.2}; on shuffled bases it is {shuffled:.2}{}",
            if own < 1.2 {
                ". The phase is there, but weak"
            } else {
                ""
            }
        ),
        (true, None) => format!(", a factor of {own:.2}"),
    };
    Some(format!("{shares}{verdict}."))
}

/// Signals whose rate lies outside that of random order and of all bases.
fn signals(stage: &StageSurvey) -> String {
    let Some(all) = rate(&stage.rates, Mark::All) else {
        return String::new();
    };
    let kinds = [
        Mark::StartCodon,
        Mark::StopCodon,
        Mark::ShineDalgarno,
        Mark::Promoter,
        Mark::TransferRna,
        Mark::RibosomalRna,
        Mark::Intergenic,
    ];
    let mut more = Vec::new();
    let mut fewer = Vec::new();
    for mark in kinds {
        let Some(found) = rate(&stage.rates, mark) else {
            continue;
        };
        let chance = rate(&stage.random, mark).map_or(all.rate, |rate| rate.rate);
        let named = format!("{} ({:.1} %)", mark.label(), 100.0 * found.rate.value);
        if found.rate.low > chance.high {
            more.push(named);
        } else if found.rate.high < chance.low {
            fewer.push(named);
        }
    }
    let mut text = String::new();
    if !more.is_empty() {
        text += &format!(
            " More than the {:.1} % of all bases: {}.",
            100.0 * all.rate.value,
            more.join(", ")
        );
    }
    if !fewer.is_empty() {
        text += &format!(" Fewer: {}.", fewer.join(", "));
    }
    text
}
