//! `cistron score vcf`.

use std::path::PathBuf;

use cistron_genome::compression::input_name;
use cistron_score::error::ScoreError;
use cistron_score::vcf::{self, AltRow, Target, VcfOptions};
use cistron_tables::{Cell, Kind};
use cistron_variant::aliases::ContigAliases;
use cistron_variant::annotate::{Declaration, Provenance};
use cistron_variant::consequence::Genes;
use cistron_variant::mismatch::MismatchPolicy;
use cistron_variant::shard::Shard;
use cistron_variant::vcf::{Column, Reader};
use cistron_variant::writer::{OutputKind, VcfWriter, WriterOptions};
use clap::{Args, ValueEnum};

use crate::commands::command_line;
use crate::commands::score::{FrameArg, GRID, genetic_code, read_genome};
use crate::failure::Usage;
use crate::global::Global;
use crate::models::ScorerArg;
use crate::progress::Progress;
use crate::table::{self, OutTable};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mismatch {
    /// Keep the line unscored, with the status REF_MISMATCH
    Skip,
    /// Stop
    Error,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OutputType {
    /// Plain VCF
    V,
    /// BGZF
    Z,
}

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score vcf --fasta ref.fna.gz --model run/model in.vcf.gz -o out.vcf.gz --write-index
  bcftools view in.bcf | cistron score vcf --fasta ref.fna.gz --model run/model - > out.vcf
  cistron score vcf --fasta ref.fna.gz --model run/model --circular all in.vcf | bcftools view -i 'INFO/CIS_LLR<-5'
  cistron score vcf --fasta ref.fna.gz --model run/model --shard 2/8 in.vcf.gz -o part2.vcf.gz

CIS_LLR (Number=A) is the log-likelihood of the window with the ALT minus that with the REF, in
nats: negative means that the model finds the ALT less likely. CIS_STATUS (Number=A) is OK or says
why an ALT has no score. Every line is kept, in its order; only INFO changes. Variants are scored
one by one, whatever lies near them. Normalise indels first: bcftools norm -f ref.fna -m -any.
Scores do not depend on --threads nor on the other variants of the file. `cistron gather` joins the
parts that --shard makes into what one run would have written.")]
pub struct Vcf {
    /// VCF to score: plain, gzip or BGZF; - for standard input
    #[arg(value_name = "IN.vcf")]
    input: PathBuf,
    /// Reference of the variants
    #[arg(long, short = 'f', value_name = "FASTA")]
    fasta: PathBuf,
    #[command(flatten)]
    model: ScorerArg,
    /// Annotation: adds the consequence of each ALT (CIS_CSQ) and its gene (CIS_GENE), and says
    /// which contigs are circular (Is_circular=true)
    #[arg(long, value_name = "GFF3")]
    gff: Option<PathBuf>,
    /// Genetic code of genes without transl_table: 4, 11 or 25
    #[arg(long, value_name = "TABLE", default_value = "11")]
    genetic_code: u32,
    /// Output; - for standard output
    #[arg(long, short, value_name = "OUT.vcf[.gz]", default_value = "-")]
    output: PathBuf,
    /// Output type: v plain, z BGZF [default: by the suffix]
    #[arg(long, short = 'O', value_enum, value_name = "TYPE")]
    output_type: Option<OutputType>,
    #[command(flatten)]
    frame: FrameArg,
    /// Variants in the same cell of N bases share what is read before them: faster where they
    /// are dense; their windows begin up to N - 1 bases earlier; 1 shares nothing
    #[arg(long, value_name = "N", default_value_t = GRID, value_parser = clap::value_parser!(u32).range(1..))]
    grid: u32,
    /// Circular contigs, whose windows wrap: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Other names of contigs: two columns, or an NCBI assembly report
    #[arg(long, value_name = "FILE")]
    contig_aliases: Option<PathBuf>,
    /// What a REF that differs from the FASTA does
    #[arg(long, value_enum, default_value = "skip")]
    ref_mismatch: Mismatch,
    /// Also write a table, a row for each ALT (.tsv, .csv, also .gz, or .parquet)
    #[arg(long, value_name = "OUT")]
    table: Option<PathBuf>,
    /// Also write a table of the ALTs that were not scored, with the reason
    #[arg(long, value_name = "OUT")]
    skipped: Option<PathBuf>,
    /// Score one of N equal parts of the records, such as 2/8
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Write a tabix index beside a BGZF output
    #[arg(long, short = 'W')]
    write_index: bool,
    /// Leave version, command and digests out of the header
    #[arg(long)]
    no_version: bool,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

/// Columns of `--table`.
const TABLE: &[(&str, Kind)] = &[
    ("chrom", Kind::Text),
    ("pos", Kind::Integer),
    ("id", Kind::Text),
    ("ref", Kind::Text),
    ("alt", Kind::Text),
    ("llr", Kind::Float),
    ("abs_llr", Kind::Float),
    ("llr_forward", Kind::Float),
    ("llr_reverse", Kind::Float),
    ("n_ref", Kind::Integer),
    ("n_alt", Kind::Integer),
    ("status", Kind::Text),
    ("consequence", Kind::Text),
    ("gene", Kind::Text),
];

/// Columns of `--skipped`.
const SKIPPED: &[(&str, Kind)] = &[
    ("line", Kind::Integer),
    ("chrom", Kind::Text),
    ("pos", Kind::Integer),
    ("id", Kind::Text),
    ("ref", Kind::Text),
    ("alt", Kind::Text),
    ("status", Kind::Text),
];

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("?")
}

fn id<'a>(row: &AltRow<'a>) -> Cell<'a> {
    match row.record.column(Column::Id) {
        b"." => Cell::Missing,
        id => Cell::Text(text(id)),
    }
}

fn cells<'a>(row: &'a AltRow<'a>) -> [Cell<'a>; 14] {
    let number = |value: Option<f32>| Cell::from(value.map(f64::from));
    let count = match row.bases {
        0 => Cell::Missing,
        bases => Cell::Integer(bases as i64),
    };
    let score = row.score.ok();
    let effect = row.effect.as_ref();
    [
        Cell::Text(row.record.chrom()),
        Cell::Integer(row.record.pos() as i64),
        id(row),
        Cell::Text(text(row.record.ref_())),
        Cell::Text(text(row.alternate)),
        number(score),
        number(score.map(f32::abs)),
        number(row.forward),
        number(row.reverse),
        count,
        count,
        Cell::Text(row.status().word()),
        effect.map_or(Cell::Missing, |(what, _)| Cell::Text(what.word())),
        Cell::from(effect.and_then(|(_, gene)| gene.as_deref())),
    ]
}

fn reason<'a>(row: &'a AltRow<'a>) -> [Cell<'a>; 7] {
    [
        Cell::Integer(row.record.line() as i64),
        Cell::Text(row.record.chrom()),
        Cell::Integer(row.record.pos() as i64),
        id(row),
        Cell::Text(text(row.record.ref_())),
        Cell::Text(text(row.alternate)),
        Cell::Text(row.status().word()),
    ]
}

pub fn run(global: &Global, command: Vcf) -> anyhow::Result<()> {
    let to_stdout = command.output.as_os_str() == "-";
    if command.write_index && to_stdout {
        return Err(Usage("--write-index needs an output file (-o OUT.vcf.gz)".into()).into());
    }
    for path in command.table.iter().chain(&command.skipped) {
        table::claim(path, command.force)?;
        if to_stdout && path.as_os_str() == "-" {
            return Err(Usage("the VCF goes to standard output; name it with -o".into()).into());
        }
    }
    if command.shard.is_some() && command.input.as_os_str() == "-" {
        let problem = "--shard reads its input twice; name a file instead of -";
        return Err(Usage(problem.into()).into());
    }
    let device = global.device()?;
    let (genome, annotation) =
        read_genome(&command.fasta, command.gff.as_deref(), &command.circular)?;
    let code = genetic_code(command.genetic_code)?;
    let genes = annotation
        .as_ref()
        .map(|annotation| Genes::new(annotation, &genome, code))
        .transpose()?;
    let aliases = match &command.contig_aliases {
        Some(path) => ContigAliases::read(path, &genome)?,
        None => ContigAliases::default(),
    };
    let mut reader = Reader::open(&command.input)?;
    for warning in reader.header().warnings() {
        tracing::warn!("{}: {warning}", reader.file());
    }
    let writer = VcfWriter::create(
        &command.output,
        WriterOptions {
            kind: match command.output_type {
                None => OutputKind::BySuffix,
                Some(OutputType::V) => OutputKind::Plain,
                Some(OutputType::Z) => OutputKind::Bgzf,
            },
            force: command.force,
            write_index: command.write_index,
        },
    )?;
    let (engine, model) = command.model.start(global, device, Some(&genome))?;
    let (frame, said) = command.frame.resolve(command.grid, &engine);
    let reference = format!("{};sha256={}", command.fasta.display(), genome.digest());
    let typed = match command.shard {
        None => command_line(),
        Some(_) => shared_command_line(std::env::args()),
    };
    let declaration = Declaration {
        llr: format!("Log-likelihood of the ALT window minus the REF window in nats, {said}"),
        // The name alone: outputs must not depend on where inputs lie.
        consequence: command.gff.as_deref().map(|gff| {
            let name = gff.file_name().map(|name| name.to_string_lossy());
            name.map_or_else(|| input_name(gff), std::borrow::Cow::into_owned)
        }),
        provenance: (!command.no_version).then(|| Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: typed.clone(),
            model: model.clone(),
            reference: reference.clone(),
        }),
        shard: command.shard,
    };
    let only = command.shard.map(|shard| {
        let total = records(&command.input)?;
        let range = shard.range(total);
        tracing::info!(
            "part {shard}: {} of {total} records",
            range.end - range.start
        );
        anyhow::Ok(range)
    });
    let options = VcfOptions {
        frame,
        mismatch: match command.ref_mismatch {
            Mismatch::Skip => MismatchPolicy::Skip,
            Mismatch::Error => MismatchPolicy::Error,
        },
        only: only.transpose()?,
    };
    let metadata: Vec<(String, String)> = match command.no_version {
        true => Vec::new(),
        false => [
            ("tool_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("command", typed),
            ("model", model.clone()),
            ("reference", reference.clone()),
            ("settings", said.clone()),
        ]
        .map(|(key, value)| (format!("cistron_{key}"), value))
        .to_vec(),
    };
    let open = |path: &Option<PathBuf>, columns: &[(&str, Kind)]| {
        let path = path.as_deref();
        path.map(|path| OutTable::create(path, columns, &metadata))
            .transpose()
    };
    let mut table = open(&command.table, TABLE)?;
    let mut skipped = open(&command.skipped, SKIPPED)?;
    let mut visit = |row: &AltRow<'_>| -> anyhow::Result<()> {
        if let Some(table) = &mut table {
            table.row(&cells(row))?;
        }
        match &mut skipped {
            Some(skipped) if row.score.is_err() => skipped.row(&reason(row)),
            _ => Ok(()),
        }
    };
    let mut progress = Progress::new(global, "score vcf", "records", None);
    let summary = vcf::score(
        &engine,
        Target {
            genome: &genome,
            aliases: &aliases,
            genes: genes.as_ref(),
        },
        &mut reader,
        writer,
        &declaration,
        &options,
        &mut |row| visit(row).map_err(Into::into),
        &mut |done| progress.set(done),
    )
    .map_err(|error| match error {
        ScoreError::Mismatch(_) => anyhow::Error::new(error).context(input_name(&command.input)),
        error => error.into(),
    })?;
    for table in [table, skipped].into_iter().flatten() {
        table.finish()?;
    }
    let rate = progress.finish();
    let alts: u64 = summary.statuses.values().sum();
    tracing::info!(
        "{} records, {} of {alts} ALT alleles scored ({rate:.1} records a second)",
        summary.records,
        summary.scored()
    );
    for (consequence, (count, sum)) in &summary.consequences {
        let mean = sum / *count as f64;
        tracing::info!("{consequence}: {count} scored, mean {mean:.3}");
    }
    for (status, count) in summary
        .statuses
        .iter()
        .filter(|(status, _)| **status != "OK")
    {
        tracing::info!("not scored: {count} {status}");
    }
    for (contig, count) in summary.unknown_contigs.iter().take(5) {
        tracing::warn!(
            "contig '{contig}' is not in {}: {count} records; map it with --contig-aliases",
            command.fasta.display()
        );
    }
    Ok(())
}

/// Number of records of a VCF.
fn records(path: &std::path::Path) -> anyhow::Result<u64> {
    let mut reader = Reader::open(path)?;
    let mut total = 0;
    while reader.next_record()?.is_some() {
        total += 1;
    }
    Ok(total)
}

/// The command line without what differs between the parts of one run: --shard and --output.
fn shared_command_line(arguments: impl Iterator<Item = String>) -> String {
    let (mut kept, mut skip) = (Vec::new(), false);
    for argument in arguments {
        let name = argument.split('=').next().unwrap_or_default();
        let own = matches!(name, "--shard" | "--output")
            || (argument.starts_with("-o") && !argument.starts_with("--"));
        if skip || own {
            let value_follows = matches!(argument.as_str(), "--shard" | "--output" | "-o");
            skip = !skip && value_follows;
        } else {
            kept.push(argument);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::shared_command_line;

    #[test]
    fn parts_of_one_run_tell_the_same_command() {
        let one = "cistron score vcf --shard 2/8 -f r.fna in.vcf -o part2.vcf";
        let other = "cistron score vcf --shard=7/8 -f r.fna in.vcf --output=part7.vcf";
        let third = "cistron score vcf -opart7.vcf -f r.fna --output x in.vcf --shard 1/8";
        for line in [one, other, third] {
            let said = shared_command_line(line.split(' ').map(str::to_owned));
            assert_eq!(said, "cistron score vcf -f r.fna in.vcf");
        }
    }
}
