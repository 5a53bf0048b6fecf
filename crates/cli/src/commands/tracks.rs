//! `cistron tracks`.

use std::path::{Path, PathBuf};

use cistron_genome::coord::Strand;
use cistron_genome::fasta::Genome;
use cistron_score::Engine;
use cistron_score::boundaries::{ContigTracks, Tiling, contig_tracks};
use cistron_tracks::{ContigSize, bed, bedgraph, bigwig};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::commands::{command_line, eval, score};
use crate::global::Global;
use crate::models::InferenceArg;
use crate::output;
use crate::progress::Progress;
use crate::stop;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Boundary probability and information, .bw
    Bigwig,
    /// The same as text, .bedGraph.gz with a tabix index
    Bedgraph,
    /// Chunks, .bed.gz with a tabix index
    Bed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strands {
    /// Both, in files of their own
    Both,
    /// The forward strand
    Fwd,
    /// The reverse strand
    #[value(alias = "rc")]
    Rev,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron tracks --fasta ref.fna.gz --model run/model -o tracks
  cistron tracks --fasta ref.fna.gz --gff ref.gff3.gz --model run/model -o tracks --formats bigwig,bed

For each strand: stageN.STRAND.boundary.bw, the probability that a chunk starts at a base, reading
along the strand; stageN.STRAND.chunks.bed.gz, the chunks, which tile every contig; and
information.STRAND.bw, -log2 of each base's likelihood. Inner stages are zero where no outer chunk
starts. Contigs are read in overlapping tiles; the first --warm-up bases of a tile are taken from
the one before, because a model starts a chunk at the first token that it sees.")]
pub struct Tracks {
    /// Genome to read
    #[arg(long, short = 'f', value_name = "FASTA")]
    fasta: PathBuf,
    /// Annotation, from which circular contigs are read (Is_circular=true)
    #[arg(long, value_name = "GFF3")]
    gff: Option<PathBuf>,
    #[command(flatten)]
    model: InferenceArg,
    /// Folder to write
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Formats to write
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "bigwig,bedgraph,bed"
    )]
    formats: Vec<Format>,
    /// Strands to read
    #[arg(long, value_enum, default_value = "both")]
    strand: Strands,
    /// Circular contigs: names, or all
    #[arg(long, value_name = "NAME,...|all", value_delimiter = ',')]
    circular: Vec<String>,
    /// Bases a tile [default: the model's training context]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    tile: Option<u32>,
    /// Bases of a tile that are read and dropped [default: half of a tile]
    #[arg(long, value_name = "N")]
    warm_up: Option<u32>,
    /// Write into a folder that holds something
    #[arg(long)]
    force: bool,
}

struct Writers {
    bigwig: Option<bigwig::Writer>,
    bedgraph: Option<bedgraph::Writer>,
}

impl Writers {
    fn create(
        folder: &Path,
        stem: &str,
        sizes: &[ContigSize],
        formats: &[Format],
    ) -> anyhow::Result<Self> {
        let wanted = |format| formats.contains(&format);
        let path = |ending: &str| folder.join(format!("{stem}.{ending}"));
        let bigwig = wanted(Format::Bigwig).then(|| bigwig::Writer::create(&path("bw"), sizes));
        let bedgraph =
            wanted(Format::Bedgraph).then(|| bedgraph::Writer::create(&path("bedGraph.gz"), sizes));
        Ok(Self {
            bigwig: bigwig.transpose()?,
            bedgraph: bedgraph.transpose()?,
        })
    }

    fn push(&mut self, contig: &str, values: &[f32]) -> anyhow::Result<()> {
        if let Some(writer) = &mut self.bigwig {
            writer.push(contig, values)?;
        }
        if let Some(writer) = &mut self.bedgraph {
            writer.push(contig, values)?;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        self.bigwig.map(bigwig::Writer::finish).transpose()?;
        self.bedgraph.map(bedgraph::Writer::finish).transpose()?;
        Ok(())
    }
}

/// Sums of one stage and strand, for the summary.
#[derive(Default, Clone)]
struct Sums {
    bases: u64,
    chunks: u64,
    probability: f64,
}

pub fn run(global: &Global, command: Tracks) -> anyhow::Result<()> {
    global.start_pool();
    let device = global.device()?;
    let (genome, _) =
        score::read_genome(&command.fasta, command.gff.as_deref(), &command.circular)?;
    let loaded = command.model.load(device)?;
    let engine = Engine::new(&loaded.model, global.threads())?.with_stop(stop::flag());
    let tile = eval::context(command.tile, &engine);
    let warm_up = command.warm_up.map_or(tile / 2, |warm_up| warm_up as usize);
    let tiling = Tiling { tile, warm_up };
    output::claim_folder(&command.out, command.force)?;
    let strands: &[(Strand, &str)] = match command.strand {
        Strands::Both => &[(Strand::Forward, "fwd"), (Strand::Reverse, "rev")],
        Strands::Fwd => &[(Strand::Forward, "fwd")],
        Strands::Rev => &[(Strand::Reverse, "rev")],
    };
    let total = genome.total_len() * strands.len() as u64;
    let mut progress = Progress::new(global, "tracks", "bases", Some(total));
    let mut summary = Vec::new();
    for &(strand, name) in strands {
        let stages = one_strand(
            &engine,
            &genome,
            strand,
            name,
            tiling,
            &command,
            &mut progress,
        )?;
        for (stage, sums) in stages.iter().enumerate() {
            summary.push(json!({
                "stage": stage + 1,
                "strand": strand.to_string(),
                "bases": sums.bases,
                "chunks": sums.chunks,
                "bases_per_chunk": sums.bases as f64 / sums.chunks.max(1) as f64,
                "mean_probability": sums.probability / sums.bases.max(1) as f64,
            }));
        }
    }
    let rate = progress.finish();
    let text = json!({
        "tool_version": env!("CARGO_PKG_VERSION"),
        "command": command_line(),
        "model": loaded.provenance,
        "reference": { "file": command.fasta.display().to_string(), "sha256": genome.digest() },
        "tile": tile,
        "warm_up": warm_up,
        "stages": summary,
    });
    let path = command.out.join("summary.json");
    cistron_model::checkpoint::write_atomically(&path, format!("{text:#}\n").as_bytes())?;
    tracing::info!(
        "{}: written at {rate:.0} bases a second",
        command.out.display()
    );
    Ok(())
}

fn one_strand(
    engine: &Engine,
    genome: &Genome,
    strand: Strand,
    name: &str,
    tiling: Tiling,
    command: &Tracks,
    progress: &mut Progress,
) -> anyhow::Result<Vec<Sums>> {
    let sizes: Vec<ContigSize> = genome
        .contigs
        .iter()
        .map(|contig| ContigSize::new(contig.name.clone(), contig.bases.len() as u64))
        .collect();
    let stages = engine.stages();
    let numbers = 1..=stages;
    let mut boundary = numbers
        .clone()
        .map(|n| {
            let stem = format!("stage{n}.{name}.boundary");
            Writers::create(&command.out, &stem, &sizes, &command.formats)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut chunks = Vec::new();
    if command.formats.contains(&Format::Bed) {
        for n in numbers {
            let path = command.out.join(format!("stage{n}.{name}.chunks.bed.gz"));
            chunks.push(bed::Writer::create(&path, &sizes, n, strand)?);
        }
    }
    let stem = format!("information.{name}");
    let mut information = Writers::create(&command.out, &stem, &sizes, &command.formats)?;
    let mut sums = vec![Sums::default(); stages];
    for contig in &genome.contigs {
        let tracks: ContigTracks = contig_tracks(engine, contig, strand, tiling, &mut |bases| {
            progress.add(bases)
        })?;
        let contig = contig.name.as_str();
        information.push(contig, &tracks.information)?;
        for (i, stage) in tracks.stages.iter().enumerate() {
            boundary[i].push(contig, &stage.prob)?;
            let found = stage.chunks(strand);
            sums[i].bases += stage.prob.len() as u64;
            sums[i].chunks += found.len() as u64;
            sums[i].probability += stage.prob.iter().map(|&p| f64::from(p)).sum::<f64>();
            if let Some(writer) = chunks.get_mut(i) {
                for chunk in found {
                    writer.push(contig, chunk)?;
                }
            }
        }
    }
    information.finish()?;
    boundary.into_iter().try_for_each(Writers::finish)?;
    for writer in chunks {
        writer.finish()?;
    }
    Ok(sums)
}
