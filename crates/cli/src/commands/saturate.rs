//! `cistron score saturate`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cistron_genome::coord::{Interval, Position};
use cistron_genome::fasta::{Contig, Genome};
use cistron_score::saturate::{Site, saturate};
use cistron_tracks::atomic::AtomicFile;
use cistron_tracks::{ContigSize, bigwig};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::commands::score::{self, FrameArg};
use crate::failure::Usage;
use crate::global::Global;
use crate::models::ScorerArg;
use crate::output;
use crate::progress::Progress;

/// Arguments.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron score saturate --fasta ref.fna.gz --region NC_000913.3:366305-366500
  cistron score saturate --fasta ref.fna.gz --circular all -o all.tsv.gz --bigwig mean.bw

The table has a row for each base: contig, position from 1, reference base, and the score of the
change to A, C, G and T in nats: log-likelihood with the change minus that without, negative where
the model finds the change less likely; NA for the reference base itself. The bigWig holds the mean
of the three. --horizon full counts to the end of the window and takes many times longer.")]
pub struct Saturate {
    /// Reference
    #[arg(long, short = 'f', value_name = "FASTA")]
    fasta: PathBuf,
    #[command(flatten)]
    model: ScorerArg,
    /// Annotation, from which circular contigs are read (Is_circular=true)
    #[arg(long, value_name = "GFF3")]
    gff: Option<PathBuf>,
    /// What to score: a contig, or bases of it counted from 1 [default: every contig]
    #[arg(long, value_name = "CONTIG[:FROM-TO]")]
    region: Option<String>,
    /// Table; - for standard output
    #[arg(long, short, value_name = "OUT.tsv[.gz]", default_value = "-")]
    output: PathBuf,
    /// Also write the mean of each position as a track
    #[arg(long, value_name = "OUT.bw")]
    bigwig: Option<PathBuf>,
    #[command(flatten)]
    frame: FrameArg,
    /// Positions in the same cell of N bases share what is read before them
    #[arg(long, value_name = "N", default_value_t = score::GRID, value_parser = clap::value_parser!(u32).range(1..))]
    grid: u32,
    /// Circular contigs, whose windows wrap: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Replace existing outputs
    #[arg(long)]
    force: bool,
}

pub fn run(global: &Global, command: &Saturate) -> anyhow::Result<()> {
    let device = global.device()?;
    let (genome, _) =
        score::read_genome(&command.fasta, command.gff.as_deref(), &command.circular)?;
    let parts = parts(&genome, command.region.as_deref())?;
    let to_file = command.output.as_os_str() != "-";
    let outputs = to_file.then_some(&command.output).into_iter();
    for path in outputs.chain(&command.bigwig) {
        output::claim_file(path, command.force)?;
    }
    let (engine, _) = command.model.start(global, device, Some(&genome))?;
    let (frame, said) = command.frame.resolve(command.grid, &engine);
    tracing::info!("{said}");
    let mut table = Table::create(&command.output)?;
    let sizes: Vec<ContigSize> = genome
        .contigs
        .iter()
        .map(|contig| ContigSize::new(contig.name.clone(), contig.bases.len() as u64))
        .collect();
    let mut track = match &command.bigwig {
        Some(path) => Some(bigwig::Writer::create(path, &sizes)?),
        None => None,
    };
    let total = parts.iter().map(|(_, interval)| interval.len()).sum();
    let mut progress = Progress::new(global, "score saturate", "bases", Some(total));
    table.write(b"chrom\tpos\tref\tA\tC\tG\tT\n")?;
    for contig in &genome.contigs {
        let name = contig.name.as_str();
        let length = contig.bases.len() as u64;
        let part = parts.iter().find(|(of, _)| std::ptr::eq(*of, contig));
        let Some(&(_, interval)) = part else {
            if let Some(track) = &mut track {
                track.skip(name, length)?;
            }
            continue;
        };
        if let Some(track) = &mut track {
            track.skip(name, interval.start())?;
        }
        saturate(&engine, contig, interval, &frame, &mut |sites| {
            table.write(rows(name, sites).as_bytes())?;
            if let Some(track) = &mut track {
                for site in sites {
                    match site.mean() {
                        Some(mean) => track.push(name, &[mean])?,
                        None => track.skip(name, 1)?,
                    }
                }
            }
            progress.add(sites.len() as u64);
            anyhow::Ok(())
        })?;
        if let Some(track) = &mut track {
            track.skip(name, length - interval.end())?;
        }
    }
    if let Some(track) = track {
        track.finish()?;
    }
    table.finish()?;
    let rate = progress.finish();
    tracing::info!("{total} bases, {rate:.1} a second");
    Ok(())
}

/// The contigs to score, and what of each: all, or what `--region` says.
pub fn parts<'g>(
    genome: &'g Genome,
    region: Option<&str>,
) -> anyhow::Result<Vec<(&'g Contig, Interval)>> {
    let whole = |contig: &'g Contig| {
        let interval = Interval::new(0, contig.bases.len() as u64).expect("from 0 on");
        (contig, interval)
    };
    let Some(text) = region else {
        return Ok(genome.contigs.iter().map(whole).collect());
    };
    let (contig, interval) = self::region(genome, text)?;
    Ok(vec![(&genome.contigs[contig], interval)])
}

/// The contig, by its number, and the bases that `--region` names.
pub fn region(genome: &Genome, region: &str) -> anyhow::Result<(usize, Interval)> {
    let whole = |contig: usize| {
        let length = genome.contigs[contig].bases.len() as u64;
        (contig, Interval::new(0, length).expect("from 0 on"))
    };
    // A name may itself hold a colon.
    if let Some(contig) = genome.index_of(region) {
        return Ok(whole(contig));
    }
    let Some((name, range)) = region.rsplit_once(':') else {
        return Ok(whole(genome.require(region).context("--region")?));
    };
    let contig = genome.require(name).context("--region")?;
    let position = |text: &str| Position::new(text.replace(',', "").parse().ok()?);
    let interval = range
        .split_once('-')
        .and_then(|(from, to)| Some((position(from)?, position(to)?)))
        .and_then(|(from, to)| Interval::from_one_based_inclusive(from, to));
    let Some(interval) = interval else {
        let problem = format!("--region {region}: expected CONTIG:FROM-TO, counted from 1");
        return Err(Usage(problem).into());
    };
    let length = genome.contigs[contig].bases.len();
    if interval.end() > length as u64 {
        bail!("--region {region}: {name} has {length} bases");
    }
    Ok((contig, interval))
}

fn rows(contig: &str, sites: &[Site]) -> String {
    let mut text = String::new();
    for site in sites {
        let reference = char::from(site.reference);
        text += &format!("{contig}\t{}\t{reference}", site.position + 1);
        for score in site.scores {
            // Adding zero turns -0 into 0.
            text += &score.map_or("\tNA".to_owned(), |score| format!("\t{:?}", score + 0.0));
        }
        text.push('\n');
    }
    text
}

/// A text file, gzipped by its suffix, that appears when it is whole; or standard output.
pub enum Table {
    /// Standard output.
    Stdout,
    /// Plain text.
    Plain(BufWriter<AtomicFile>, PathBuf),
    /// Gzipped text.
    Gzip(GzEncoder<AtomicFile>, PathBuf),
}

impl Table {
    /// Opens it; `-` is standard output.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        let file = AtomicFile::create(path).with_context(|| path.display().to_string())?;
        Ok(match path.extension().is_some_and(|end| end == "gz") {
            true => Self::Gzip(GzEncoder::new(file, Compression::default()), path.into()),
            false => Self::Plain(BufWriter::new(file), path.into()),
        })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()?;
                Ok(())
            }
            Self::Plain(file, path) => file
                .write_all(bytes)
                .with_context(|| path.display().to_string()),
            // The compressed bytes follow the sizes of what is written: line by line, the parts of
            // a table that `gather` joins become the bytes of a single run.
            Self::Gzip(file, path) => bytes
                .split_inclusive(|byte| *byte == b'\n')
                .try_for_each(|line| file.write_all(line))
                .with_context(|| path.display().to_string()),
        }
    }

    /// Gives the file its name.
    pub fn finish(self) -> anyhow::Result<()> {
        let (result, path) = match self {
            Self::Stdout => return Ok(()),
            Self::Plain(file, path) => (file.into_inner().map_err(|e| e.into_error()), path),
            Self::Gzip(file, path) => (file.finish(), path),
        };
        result
            .and_then(AtomicFile::commit)
            .with_context(|| path.display().to_string())
    }
}
