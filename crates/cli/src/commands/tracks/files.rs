//! Writes the tracks of one genome from what was read of it.

use cistron_genome::coord::{Interval, Strand};
use cistron_genome::gff::Feature;
use cistron_score::boundaries::{Column, Cutter, Spool};
use cistron_tracks::session::{self, Files, Kind, Session, Track};
use cistron_tracks::{Chunk, ContigSize, bed, bedgraph, bigbed, bigwig, genes, reference};
use rayon::prelude::*;

use super::genomes::Input;
use super::{Format, Tracks};

/// Bases that are read from a spool at a time.
const PART: u64 = 1 << 16;
/// Longest stretch that a session shows at first.
const SHOWN: u64 = 3_000;

/// One file to write.
struct Job<'a> {
    track: Track,
    format: Format,
    spool: &'a Spool,
}

/// Writes tracks, genome, genes and sessions.
pub(super) fn write(
    command: &Tracks,
    input: &Input,
    spools: &[(Strand, Spool)],
) -> anyhow::Result<Session> {
    let sizes = input.sizes();
    let wanted = |format| command.formats.contains(&format);
    let mut tracks = Vec::new();
    let mut jobs = Vec::new();
    for (strand, spool) in spools {
        for (kind, stage) in kinds(spool.stages()) {
            let track = Track {
                kind,
                stage,
                strand: *strand,
            };
            let formats = match kind {
                Kind::Chunks => [Format::Bed, Format::Bigbed],
                _ => [Format::Bigwig, Format::Bedgraph],
            };
            for format in formats.into_iter().filter(|&format| wanted(format)) {
                let track = track.clone();
                jobs.push(Job {
                    track,
                    format,
                    spool,
                });
            }
            tracks.push(track);
        }
    }
    jobs.into_par_iter()
        .with_max_len(1)
        .try_for_each(|job| job.write(input, &sizes))?;
    reference::write_fasta(&input.out.join(session::FASTA), &input.genome)?;
    if wanted(Format::Bigbed) {
        reference::write_twobit(&input.out.join(session::TWOBIT), &input.genome)?;
    }
    let mut genes_bigbed = false;
    if let Some(gff) = &input.gff {
        let path = input.out.join(session::GENES);
        let scored = genes::write(&path, gff, &sizes, &input.scores)?;
        if command.gene_scores.is_some() && scored == 0 {
            tracing::warn!("{}: no gene has a score of --gene-scores", path.display());
        }
        genes_bigbed = wanted(Format::Bigbed) && write_genes(input, &sizes)?;
    }
    let session = Session {
        name: input.name.clone(),
        place: place(input, &command.genes),
        tracks,
        files: Files {
            bigwig: wanted(Format::Bigwig),
            bedgraph: wanted(Format::Bedgraph),
            bed: wanted(Format::Bed),
            bigbed: wanted(Format::Bigbed),
        },
        genes: input.gff.is_some(),
        genes_bigbed,
    };
    session.write(&input.out)?;
    Ok(session)
}

/// Tracks of one strand in the order in which they are shown.
fn kinds(stages: usize) -> Vec<(Kind, Option<usize>)> {
    let staged = (1..=stages).flat_map(|stage| {
        [Kind::Boundary, Kind::Chunks, Kind::Length].map(|kind| (kind, Some(stage)))
    });
    let bases = [(Kind::Information, None), (Kind::Entropy, None)];
    staged.chain(bases).collect()
}

impl Job<'_> {
    fn write(&self, input: &Input, sizes: &[ContigSize]) -> anyhow::Result<()> {
        let stem = self.track.stem();
        let path = |ending: &str| input.out.join(format!("{stem}.{ending}"));
        let (stage, strand) = (self.track.stage.unwrap_or(1), self.track.strand);
        match self.format {
            Format::Bigwig => {
                let mut writer = bigwig::Writer::create(&path("bw"), sizes)?;
                self.values(
                    sizes,
                    &mut |contig, values| Ok(writer.push(contig, values)?),
                )?;
                writer.finish()?;
            }
            Format::Bedgraph => {
                let mut writer = bedgraph::Writer::create(&path("bedGraph.gz"), sizes)?;
                self.values(
                    sizes,
                    &mut |contig, values| Ok(writer.push(contig, values)?),
                )?;
                writer.finish()?;
            }
            Format::Bed => {
                let mut writer = bed::Writer::create(&path("bed.gz"), sizes, stage, strand)?;
                self.chunks(sizes, &mut |contig, chunk| Ok(writer.push(contig, chunk)?))?;
                writer.finish()?;
            }
            Format::Bigbed => {
                let mut writer = bigbed::ChunkWriter::create(&path("bb"), sizes, stage, strand)?;
                self.chunks(sizes, &mut |contig, chunk| Ok(writer.push(contig, chunk)?))?;
                writer.finish()?;
            }
        }
        Ok(())
    }

    /// Hands on the values of all contigs.
    fn values(
        &self,
        sizes: &[ContigSize],
        push: &mut dyn FnMut(&str, &[f32]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let column = match (self.track.kind, self.track.stage.unwrap_or(1)) {
            (Kind::Information, _) => Column::Information,
            (Kind::Entropy, _) => Column::Entropy,
            (Kind::Boundary, stage) => Column::Probability(stage - 1),
            (Kind::Length | Kind::Chunks, _) => {
                return self.chunks(sizes, &mut |contig, chunk| {
                    let length = chunk.interval.len();
                    // A piece at a time: a chunk may be a whole contig.
                    let mut left = length;
                    while left > 0 {
                        let part = left.min(PART);
                        push(contig, &vec![length as f32; part as usize])?;
                        left -= part;
                    }
                    Ok(())
                });
            }
        };
        let mut first = 0;
        for size in sizes {
            for range in parts(first, size.length) {
                push(&size.name, &self.spool.floats(column, range)?)?;
            }
            first += size.length;
        }
        Ok(())
    }

    /// Hands on the chunks of all contigs.
    fn chunks(
        &self,
        sizes: &[ContigSize],
        push: &mut dyn FnMut(&str, Chunk) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let stage = self.track.stage.unwrap_or(1) - 1;
        let mut first = 0;
        for size in sizes {
            let mut cutter = Cutter::new(self.track.strand, size.length);
            for range in parts(first, size.length) {
                let starts = self.spool.starts(range.clone())?;
                let probability = self.spool.floats(Column::Probability(stage), range)?;
                for (start, &probability) in starts.iter().zip(&probability) {
                    if let Some(chunk) = cutter.push(start >> stage & 1 == 1, probability) {
                        push(&size.name, chunk)?;
                    }
                }
            }
            if let Some(chunk) = cutter.finish() {
                push(&size.name, chunk)?;
            }
            first += size.length;
        }
        Ok(())
    }
}

fn parts(first: u64, length: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let end = first + length;
    (first..end)
        .step_by(PART as usize)
        .map(move |from| from..(from + PART).min(end))
}

/// Genes and RNAs as bigBed; whether there are any.
fn write_genes(input: &Input, sizes: &[ContigSize]) -> anyhow::Result<bool> {
    let Some(annotation) = &input.annotation else {
        return Ok(false);
    };
    let kind = |feature: &Feature| match feature.kind.as_str() {
        "CDS" => Some("0,0,0"),
        "tRNA" | "rRNA" | "ncRNA" | "tmRNA" => Some("148,78,128"),
        "pseudogene" => Some("150,150,150"),
        _ => None,
    };
    let mut items = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        for feature in annotation.features.iter().filter(|f| f.contig == size.name) {
            let Some(colour) = kind(feature) else {
                continue;
            };
            let (start, end) = (feature.interval.start(), feature.interval.end());
            let attribute = |tag: &str| {
                let value = feature.attributes.get(tag).unwrap_or_default();
                value.replace(['\t', '\n', '\r'], " ")
            };
            let locus = attribute("locus_tag");
            let names = [attribute("gene"), attribute("Name"), locus.clone()];
            let name = names.into_iter().find(|name| !name.is_empty());
            let score = input.scores.get(&locus);
            let score = score.map_or_else(String::new, |score| format!("{score:.4}"));
            let strand = feature
                .strand
                .map_or(".".to_owned(), |strand| strand.to_string());
            // What crosses the origin is drawn to the contig's end.
            let end = end.min(size.length);
            let columns = format!(
                "{}\t0\t{strand}\t{start}\t{end}\t{colour}\t{}\t{locus}\t{}\t{score}",
                name.unwrap_or_else(|| ".".to_owned()),
                feature.kind,
                attribute("product"),
            );
            if let Some(interval) = Interval::new(start, end).filter(|i| !i.is_empty()) {
                items.push((number, interval, columns));
            }
        }
    }
    items.sort_by_key(|(number, interval, _)| (*number, interval.start(), interval.end()));
    if items.is_empty() {
        return Ok(false);
    }
    let path = input.out.join(session::GENES_BIGBED);
    let mut writer = bigbed::Writer::create(&path, sizes, bigbed::GENES)?;
    for (number, interval, columns) in items {
        writer.push(&sizes[number].name, interval, &columns)?;
    }
    writer.finish()?;
    Ok(true)
}

/// What a session shows first: the first gene asked for, else a named gene near the middle of
/// the first contig, else that contig's beginning.
fn place(input: &Input, wanted: &[String]) -> (cistron_genome::coord::ContigName, Interval) {
    let genes = super::report::genes_of(input);
    let chosen = wanted
        .iter()
        .find_map(|name| genes.iter().find(|gene| gene.is_called(name)))
        .or_else(|| {
            let named: Vec<_> = genes.iter().filter(|gene| gene.named).collect();
            named.get(named.len() / 2).copied()
        });
    let contigs = &input.genome.contigs;
    if let Some(gene) = chosen {
        let length = contigs[gene.contig].bases.len() as u64;
        let (start, end) = (gene.interval.start(), gene.interval.end());
        let from = start.saturating_sub(150);
        let to = (end + 150).min(length).min(from + SHOWN).max(from + 1);
        if let Some(interval) = Interval::new(from, to) {
            return (contigs[gene.contig].name.clone(), interval);
        }
    }
    let longest = contigs.iter().max_by_key(|contig| contig.bases.len());
    let (name, length) = longest.map_or(("none".into(), 0), |contig| {
        (contig.name.clone(), contig.bases.len() as u64)
    });
    let interval = Interval::new(0, length.min(SHOWN));
    (name, interval.expect("an interval from zero"))
}
