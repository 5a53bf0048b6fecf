//! `report.html`: what the boundaries of a genome coincide with, beside controls.

mod gene_view;
mod plots;
mod words;

use cistron_genome::coord::Strand;
use cistron_report::{Cell, Page};
use cistron_score::boundaries::Spool;
use cistron_score::survey::{Estimate, Mark, Rate};

use super::summary::Findings;
pub(super) use gene_view::genes_of;

/// The page.
pub(super) fn page(
    findings: &Findings<'_>,
    spools: &[(Strand, Spool)],
    genes: &[String],
) -> anyhow::Result<String> {
    let annotated = findings.input.annotation.is_some();
    let mut page = Page::new(format!("Chunks of {}", findings.input.name));
    page.section("In short");
    for sentence in words::in_short(findings) {
        page.text(&sentence);
    }
    page.section("Chunks");
    chunks(&mut page, findings)?;
    page.section("Where chunks start");
    rates(&mut page, findings)?;
    if annotated {
        page.section("Around the ends of genes");
        page.text(
            "Boundaries at each base around the first base of start codons and of stop codons, \
             reading along the gene. A period of three is the codon phase; a peak or dip at zero is \
             the signal itself.",
        );
        page.figures(plots::profiles(findings)?);
    }
    page.section("Bases around boundaries");
    page.text(
        "Information over the composition of the strand, at each offset from the first base of a \
         chunk. A boundary is decided when that base has been read, so only offsets up to zero can \
         cause it; what stands to the right follows from it, or from the codon that it belongs to.",
    );
    page.figures(plots::logos(findings)?);
    page.section("Information by kind of base");
    information(&mut page, findings)?;
    page.section("Gene view");
    gene_view::draw(&mut page, findings, spools, genes)?;
    page.section("Largest surprises");
    surprises(&mut page, findings);
    page.section("How this was made");
    provenance(&mut page, findings);
    Ok(page.html())
}

fn sign(strand: Strand) -> String {
    strand.to_string()
}

fn with_interval(estimate: &Estimate, decimals: usize) -> Cell {
    Cell::Text(format!(
        "{:.decimals$} ({:.decimals$}–{:.decimals$})",
        estimate.value, estimate.low, estimate.high
    ))
}

fn chunks(page: &mut Page, findings: &Findings<'_>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for strand in &findings.strands {
        for stage in &strand.stages {
            let lengths = &stage.lengths;
            rows.push(vec![
                Cell::Text(format!("stage {} ({})", stage.stage, sign(strand.strand))),
                Cell::Count(stage.chunks),
                Cell::Number(lengths.mean, 2),
                Cell::Count(lengths.median),
                Cell::Count(lengths.longest),
                Cell::Number(100.0 * lengths.remainders[0], 1),
                Cell::Number(100.0 * lengths.remainders[1], 1),
                Cell::Number(100.0 * lengths.remainders[2], 1),
            ]);
        }
    }
    page.table(
        &[
            "",
            "chunks",
            "bases a chunk",
            "median",
            "longest",
            "3n in genes, %",
            "3n+1, %",
            "3n+2, %",
        ],
        &rows,
    );
    page.text(
        "The last columns are chunks that begin in a gene on the strand that was read, by their \
         length: whole codons, and one or two bases more. Lengths without a preference have a \
         third each.",
    );
    page.figures(plots::lengths(findings)?);
    Ok(())
}

fn rates(page: &mut Page, findings: &Findings<'_>) -> anyhow::Result<()> {
    page.text(
        "Boundaries a base, by kind of base, with 95 % intervals. The model's come from a bootstrap \
         over stretches of the genome. Random order: the same chunk lengths in random order, which \
         keeps the number of boundaries and loses their places. Shuffled bases: the same model on \
         the bases of windows in random order, counted by what stood there before; it shows what \
         composition alone gives.",
    );
    page.figures(plots::rates(findings)?);
    page.text(
        "The same as figures. Selected is the share of the boundaries of the stage before that are \
         boundaries of this one.",
    );
    for strand in &findings.strands {
        for stage in &strand.stages {
            page.heading(&format!(
                "Stage {}, strand {}",
                stage.stage,
                sign(strand.strand)
            ));
            let other = |rates: &[Rate], mark: Mark| {
                let found = rates.iter().find(|rate| rate.mark == mark);
                found.map_or(Cell::Text("–".into()), |rate| {
                    with_interval(&rate.rate, 3)
                })
            };
            let rows: Vec<Vec<Cell>> = stage
                .rates
                .iter()
                .map(|rate| {
                    let mut row = vec![
                        Cell::Text(rate.mark.label().into()),
                        Cell::Count(rate.bases),
                        with_interval(&rate.rate, 3),
                        other(&stage.random, rate.mark),
                        other(&stage.shuffled, rate.mark),
                    ];
                    if stage.stage > 1 {
                        row.push(with_interval(&rate.selected, 3));
                    }
                    row
                })
                .collect();
            let mut head = vec![
                "bases that are",
                "count",
                "model",
                "random order",
                "shuffled bases",
            ];
            if stage.stage > 1 {
                head.push("selected");
            }
            page.table(&head, &rows);
        }
    }
    Ok(())
}

fn information(page: &mut Page, findings: &Findings<'_>) -> anyhow::Result<()> {
    page.text(
        "Information is -log2 of the likelihood of the base that stands there; entropy is what the \
         model expected it to be. Two bits are four equally likely bases. Information above entropy \
         means that the model was surer than it was right.",
    );
    page.figures(plots::information(findings)?);
    for strand in &findings.strands {
        page.heading(&format!("Strand {}", sign(strand.strand)));
        let rows: Vec<Vec<Cell>> = strand
            .information
            .iter()
            .map(|found| {
                vec![
                    Cell::Text(found.mark.label().into()),
                    Cell::Count(found.bases),
                    with_interval(&found.information, 4),
                    with_interval(&found.entropy, 4),
                ]
            })
            .collect();
        page.table(
            &[
                "bases that are",
                "count",
                "information, bits",
                "entropy, bits",
            ],
            &rows,
        );
    }
    Ok(())
}

fn surprises(page: &mut Page, findings: &Findings<'_>) {
    page.text(
        "Stretches of 500 bases that the model finds least likely, the mean of the strands that \
         were read. Foreign or very variable genes, repeats of a kind that was not learned, and \
         errors of an assembly are found here.",
    );
    let rows: Vec<Vec<Cell>> = findings
        .surprises
        .iter()
        .map(|found| {
            vec![
                Cell::Text(format!("{}:{}-{}", found.contig, found.first, found.last)),
                Cell::Number(found.information, 3),
                Cell::Text(match found.genes.as_slice() {
                    [] => "–".into(),
                    genes => genes.join(", "),
                }),
            ]
        })
        .collect();
    page.table(&["bases", "bits a base", "genes"], &rows);
}

fn provenance(page: &mut Page, findings: &Findings<'_>) {
    let text = |what: &str, value: String| vec![Cell::Text(what.into()), Cell::Text(value)];
    let genome = &findings.input.genome;
    let circular = genome
        .contigs
        .iter()
        .filter(|contig| contig.topology == cistron_genome::coord::Topology::Circular)
        .count();
    let none = || "none".to_owned();
    let rows = [
        text("cistron", env!("CARGO_PKG_VERSION").into()),
        text("command", crate::commands::command_line()),
        text("model", findings.model.to_owned()),
        text("genome", genome.path.display().to_string()),
        text("SHA-256 of its sequences", findings.digest.clone()),
        text(
            "contigs",
            format!(
                "{} with {} bases, {circular} circular",
                genome.contigs.len(),
                genome.total_len()
            ),
        ),
        text(
            "annotation",
            findings
                .input
                .gff
                .as_ref()
                .map_or_else(none, |path| path.display().to_string()),
        ),
        text(
            "bases that attention looks back on",
            match findings.settings.context {
                0 => "all".to_owned(),
                bases => bases.to_string(),
            },
        ),
        text(
            "warm-up of circular contigs, bases",
            findings.settings.reading.warm_up.to_string(),
        ),
        text("shuffled bases a strand", findings.control.to_string()),
    ];
    page.table(&["", ""], &rows);
    page.text(
        "Promoter regions are the promoters of the annotation; where it has none, bases between \
         genes up to 100 before a gene, which is a stand-in. Shine-Dalgarno sites are the best four \
         or more bases of AGGAGG, 5 to 18 bases before a start codon. summary.json holds every \
         figure of this page.",
    );
}
