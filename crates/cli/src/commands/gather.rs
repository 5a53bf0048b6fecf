//! `cistron gather`: one output of the parts that many machines wrote.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cistron_genome::compression::{input_name, open_input};
use cistron_variant::gather::gather;
use cistron_variant::writer::{OutputKind, VcfWriter, WriterOptions};
use clap::Args;

use crate::commands::saturate::Table;
use crate::failure::Usage;
use crate::global::Global;
use crate::output;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score vcf --fasta ref.fna.gz --shard 1/2 in.vcf.gz -o 1.vcf.gz
  cistron score vcf --fasta ref.fna.gz --shard 2/2 in.vcf.gz -o 2.vcf.gz
  cistron gather 1.vcf.gz 2.vcf.gz -o out.vcf.gz --write-index
  cistron gather chr.tsv.gz plasmid.tsv.gz -o all.tsv.gz

VCF parts that --shard made are put into their order, and every one must be there; other parts are
joined in the order given. The header, or the first line of a table, must be the same in all parts
and is written once. The output is what one run over everything would have written, byte for byte
(with --no-version, which leaves the command line out of the header).")]
pub struct Gather {
    /// Parts: VCF files, or tables with a header line; plain, gzip or BGZF
    #[arg(required = true, value_name = "PART")]
    parts: Vec<PathBuf>,
    /// Output, BGZF (VCF) or gzip (table) by the suffix; - for standard output
    #[arg(long, short, value_name = "OUT", default_value = "-")]
    output: PathBuf,
    /// Write a tabix index beside a BGZF output
    #[arg(long, short = 'W')]
    write_index: bool,
    /// Replace an existing output
    #[arg(long)]
    force: bool,
}

pub fn run(global: &Global, command: &Gather) -> anyhow::Result<()> {
    global.start_pool();
    let lines = if is_vcf(&command.parts[0])? {
        let options = WriterOptions {
            kind: OutputKind::BySuffix,
            force: command.force,
            write_index: command.write_index,
        };
        gather(&command.parts, VcfWriter::create(&command.output, options)?)?
    } else {
        if command.write_index {
            return Err(Usage("--write-index goes with VCF parts".into()).into());
        }
        if command.output.as_os_str() != "-" {
            output::claim_file(&command.output, command.force)?;
        }
        tables(&command.parts, &command.output)?
    };
    tracing::info!("{lines} records of {} parts", command.parts.len());
    Ok(())
}

fn is_vcf(path: &Path) -> anyhow::Result<bool> {
    let mut first = Vec::new();
    let input = open_input(path)?;
    input
        .take(13)
        .read_to_end(&mut first)
        .with_context(|| input_name(path))?;
    Ok(first.starts_with(b"##fileformat="))
}

/// Joins tables under the header line that they share, and returns the number of other lines.
fn tables(parts: &[PathBuf], output: &Path) -> anyhow::Result<u64> {
    let mut table = Table::create(output)?;
    let mut header: Option<String> = None;
    let mut rows = 0;
    for path in parts {
        let file = input_name(path);
        let mut input = open_input(path)?;
        let mut line = String::new();
        input.read_line(&mut line).context(file.clone())?;
        match &header {
            _ if line.is_empty() => bail!("{file}: empty; expected a header line"),
            None => {
                table.write(line.as_bytes())?;
                header = Some(line);
            }
            Some(header) if *header != line => bail!(
                "{file}: the header line is {:?}, where {} has {:?}; give parts of one table",
                line.trim_end(),
                input_name(&parts[0]),
                header.trim_end()
            ),
            Some(_) => {}
        }
        for line in input.split(b'\n') {
            let mut line = line.context(file.clone())?;
            line.push(b'\n');
            table.write(&line)?;
            rows += 1;
        }
    }
    table.finish()?;
    Ok(rows)
}
