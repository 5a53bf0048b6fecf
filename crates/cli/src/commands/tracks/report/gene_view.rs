//! Genes base by base, with the boundaries of all stages.

use anyhow::Context;
use cistron_genome::coord::{Interval, Strand};
use cistron_genome::revcomp;
use cistron_report::{Page, escape};
use cistron_score::boundaries::{Column, Spool};

use super::super::genomes::Input;
use super::super::summary::Findings;

/// Genes that are drawn unless some are asked for.
const GENES: usize = 12;
/// Bases before and after a gene that are drawn with it, whole codons.
const AROUND: u64 = 60;
/// Longest stretch of a gene that is drawn.
const LONGEST: u64 = 1_800;
/// Bases between two numbers.
const ROW: usize = 60;
/// Information from which a base is marked, in bits.
const HIGH: f32 = 3.0;

/// A protein-coding gene in one part.
pub(in super::super) struct Gene {
    /// Index of its contig.
    pub contig: usize,
    pub interval: Interval,
    pub strand: Strand,
    /// Whether it has a name beside a locus tag.
    pub named: bool,
    names: Vec<String>,
    product: String,
}

impl Gene {
    /// Whether `name` is one of its names.
    pub fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

/// The genes of a genome that can be drawn, in file order.
pub(in super::super) fn genes_of(input: &Input) -> Vec<Gene> {
    let Some(annotation) = &input.annotation else {
        return Vec::new();
    };
    annotation
        .of_kind("CDS")
        .filter_map(|feature| {
            let contig = input.genome.index_of(feature.contig.as_str())?;
            let length = input.genome.contigs[contig].bases.len() as u64;
            let whole = feature.interval.end() <= length
                && feature.interval.len() % 3 == 0
                && !feature.is_pseudo();
            let names: Vec<String> = ["gene", "Name", "locus_tag", "ID"]
                .iter()
                .filter_map(|tag| feature.attributes.get(tag).map(str::to_owned))
                .collect();
            let named = feature.attributes.get("gene").is_some();
            whole.then_some(Gene {
                contig,
                interval: feature.interval,
                strand: feature.strand?,
                named,
                names,
                product: feature
                    .attributes
                    .get("product")
                    .unwrap_or_default()
                    .to_owned(),
            })
        })
        .collect()
}

/// Draws the genes asked for, or some that are evenly spaced.
pub(super) fn draw(
    page: &mut Page,
    findings: &Findings<'_>,
    spools: &[(Strand, Spool)],
    wanted: &[String],
) -> anyhow::Result<()> {
    let genes = genes_of(findings.input);
    let read = |gene: &&Gene| spools.iter().any(|(strand, _)| *strand == gene.strand);
    let chosen: Vec<&Gene> = if wanted.is_empty() {
        let mut named: Vec<&Gene> = genes
            .iter()
            .filter(|gene| gene.named)
            .filter(read)
            .collect();
        if named.is_empty() {
            named = genes.iter().filter(read).collect();
        }
        let step = (named.len() / GENES).max(1);
        named.into_iter().step_by(step).take(GENES).collect()
    } else {
        let found = wanted.iter().filter_map(|name| {
            let gene = genes.iter().filter(read).find(|gene| gene.is_called(name));
            if gene.is_none() {
                tracing::warn!("--genes: no gene {name:?} on a strand that was read");
            }
            gene
        });
        found.collect()
    };
    if chosen.is_empty() {
        page.text("No gene to draw: give an annotation with --gff, and genes with --genes.");
        return Ok(());
    }
    page.text(
        "Genes along their own strand, in codons; grey bases lie before and after. A blue line \
         stands where a chunk of stage 1 starts, a double red one where a chunk of a deeper stage \
         does. Shaded bases have three bits or more.",
    );
    for (number, gene) in chosen.into_iter().enumerate() {
        one(page, findings, spools, gene, number == 0)?;
    }
    Ok(())
}

/// What is drawn of a gene: from, to, and whether that leaves out its end. In whole codons, as far as
/// the contig reaches; of a long gene the beginning.
fn stretch(start: u64, end: u64, length: u64, strand: Strand) -> (u64, u64, bool) {
    let before = AROUND.min(start) / 3 * 3;
    let after = AROUND.min(length - end) / 3 * 3;
    let (from, to) = (start - before, end + after);
    match strand {
        _ if to - from <= LONGEST => (from, to, false),
        Strand::Forward => (from, from + LONGEST, true),
        Strand::Reverse => (to - LONGEST, to, true),
    }
}

fn one(
    page: &mut Page,
    findings: &Findings<'_>,
    spools: &[(Strand, Spool)],
    gene: &Gene,
    open: bool,
) -> anyhow::Result<()> {
    let contigs = &findings.input.genome.contigs;
    let contig = &contigs[gene.contig];
    let first: u64 = contigs[..gene.contig]
        .iter()
        .map(|c| c.bases.len() as u64)
        .sum();
    let length = contig.bases.len() as u64;
    let (start, end) = (gene.interval.start(), gene.interval.end());
    let (from, to, cut) = stretch(start, end, length, gene.strand);
    let Some((_, spool)) = spools.iter().find(|(strand, _)| *strand == gene.strand) else {
        return Ok(());
    };
    let range = first + from..first + to;
    let unread = || "the temporary file of the tracks";
    let mut starts = spool.starts(range.clone()).with_context(unread)?;
    let mut bits = spool
        .floats(Column::Information, range)
        .with_context(unread)?;
    let mut bases = contig.bases[from as usize..to as usize].to_vec();
    let lead = match gene.strand {
        Strand::Forward => start - from,
        Strand::Reverse => to - end,
    } as usize;
    if gene.strand == Strand::Reverse {
        starts.reverse();
        bits.reverse();
        bases = revcomp(&bases);
    }
    let body = lead..lead + (end - start) as usize;
    let mut html = String::new();
    for (number, codon) in bases.chunks(3).enumerate() {
        let at = 3 * number;
        if at % ROW == 0 {
            let place = match gene.strand {
                Strand::Forward => from + at as u64 + 1,
                Strand::Reverse => to - at as u64,
            };
            html += &format!("<small>{place}</small>");
        }
        html += if body.contains(&at) {
            "<i>"
        } else {
            "<i class=\"out\">"
        };
        for (i, &base) in codon.iter().enumerate() {
            let base = char::from(base);
            let letter = if bits[at + i] >= HIGH {
                format!("<span class=\"h\">{base}</span>")
            } else {
                base.to_string()
            };
            html += &match starts[at + i] {
                0 => letter,
                1 => format!("<b>{letter}</b>"),
                _ => format!("<b class=\"two\">{letter}</b>"),
            };
        }
        html += "</i>";
    }
    let name = gene.names.first().map_or("gene", String::as_str);
    let place = format!("{}:{} ({})", contig.name, gene.interval, gene.strand);
    page.raw(&format!(
        "<details{}><summary>{} – {} – {place}{}</summary>\n<p class=\"bases\">{html}</p></details>\n",
        if open { " open" } else { "" },
        escape(name),
        escape(&gene.product),
        if cut { ", shortened" } else { "" },
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_gene_the_beginning_is_drawn() {
        let drawn = |strand| stretch(1_000, 4_000, 10_000, strand);
        assert_eq!(drawn(Strand::Forward), (940, 940 + LONGEST, true));
        assert_eq!(drawn(Strand::Reverse), (4_060 - LONGEST, 4_060, true));
        assert_eq!(stretch(1, 301, 302, Strand::Reverse), (1, 301, false));
    }
}
