//! `summary.json`, and the page that lists the files of a folder.

use std::path::Path;

use anyhow::Context;
use cistron_genome::coord::Strand;
use cistron_score::Engine;
use cistron_score::boundaries::Spool;
use cistron_score::survey::{self, StrandSurvey, Surprise, control};
use cistron_tracks::reference::write_whole;
use cistron_tracks::session::Session;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::genomes::Input;
use super::{Settings, Tracks, report};
use crate::commands::command_line;
use crate::models::Loaded;

/// Bases of a stretch in the list of surprises.
const STRETCH: usize = 500;
/// Stretches in that list.
const STRETCHES: usize = 20;

/// All that is said of one genome.
pub(super) struct Findings<'a> {
    pub input: &'a Input,
    pub settings: Settings,
    pub model: &'a str,
    pub digest: String,
    pub strands: Vec<StrandSurvey>,
    pub surprises: Vec<Surprise>,
    /// Shuffled bases that were read for each strand.
    pub control: usize,
}

/// Counts what was read of a genome, and writes `summary.json`, `report.html` and `index.html`.
pub(super) fn write(
    command: &Tracks,
    engine: &Engine,
    loaded: &Loaded,
    settings: Settings,
    input: &Input,
    spools: &[(Strand, Spool)],
    session: &Session,
) -> anyhow::Result<()> {
    let (genome, annotation) = (&input.genome, input.annotation.as_ref());
    let unread = || "the temporary file of the tracks";
    let mut strands = spools
        .par_iter()
        .map(|(strand, spool)| survey::strand(genome, annotation, *strand, spool))
        .collect::<Result<Vec<_>, _>>()
        .with_context(unread)?;
    let control = match command.no_report {
        true => 0,
        false => (command.control as usize).min(genome.total_len() as usize),
    };
    if control > 0 {
        for strand in &mut strands {
            let rates = control::shuffled(engine, genome, annotation, strand.strand, control)?;
            for (stage, rates) in strand.stages.iter_mut().zip(rates) {
                stage.shuffled = rates;
            }
        }
    }
    let surprises =
        survey::surprises(genome, annotation, spools, STRETCH, STRETCHES).with_context(unread)?;
    let findings = Findings {
        input,
        settings,
        model: &loaded.provenance,
        digest: genome.digest(),
        strands,
        surprises,
        control,
    };
    let path = input.out.join("summary.json");
    write_whole(&path, format!("{:#}\n", findings.json()).as_bytes())?;
    if !command.no_report {
        let html = report::page(&findings, spools, &command.genes)?;
        write_whole(&input.out.join("report.html"), html.as_bytes())?;
    }
    let index = start_page(session, !command.no_report);
    write_whole(&input.out.join("index.html"), index.as_bytes())?;
    Ok(())
}

impl Findings<'_> {
    fn json(&self) -> Value {
        let stages: Vec<Value> = self
            .strands
            .iter()
            .flat_map(|strand| {
                strand.stages.iter().map(move |stage| {
                    json!({
                        "stage": stage.stage,
                        "strand": strand.strand.to_string(),
                        "bases": stage.bases,
                        "chunks": stage.chunks,
                        "bases_per_chunk": stage.bases as f64 / stage.chunks.max(1) as f64,
                        "mean_probability": stage.mean_probability,
                    })
                })
            })
            .collect();
        json!({
            "tool_version": env!("CARGO_PKG_VERSION"),
            "command": command_line(),
            "model": self.model,
            "reference": {
                "file": self.input.genome.path.display().to_string(),
                "sha256": self.digest,
            },
            "annotation": self.input.gff.as_ref().map(|path| path.display().to_string()),
            "context": self.settings.context,
            "warm_up": self.settings.reading.warm_up,
            "block": self.settings.block,
            "control_bases": self.control,
            "stages": stages,
            "survey": self.strands,
            "surprises": self.surprises,
        })
    }
}

/// Links to what a folder holds.
fn start_page(session: &Session, report: bool) -> String {
    let mut page = cistron_report::Page::new(format!("Chunks of {}", session.name));
    let mut links = vec![
        (
            "jbrowse.html",
            "the tracks in JBrowse 2 (a local copy under jbrowse/)",
        ),
        ("igv.html", "the tracks in igv.js (a local copy under igv/)"),
        ("igv.xml", "a session for IGV on this machine"),
        ("hub.txt", "a hub for the UCSC genome browser"),
        ("config.json", "a configuration for JBrowse 2"),
        ("summary.json", "all figures"),
    ];
    if report {
        links.insert(0, ("report.html", "what the boundaries coincide with"));
    }
    page.raw("<ul>\n");
    for (file, what) in links {
        page.raw(&format!("<li><a href=\"{file}\">{file}</a>: {what}</li>\n"));
    }
    page.raw("</ul>\n");
    page.html()
}

/// Links to the folders of several genomes.
pub(super) fn index(out: &Path, inputs: &[Input]) -> anyhow::Result<()> {
    let mut page = cistron_report::Page::new("Chunks of several genomes");
    page.raw("<ul>\n");
    for input in inputs {
        let name = cistron_report::escape(&input.name);
        page.raw(&format!(
            "<li><a href=\"{name}/index.html\">{name}</a></li>\n"
        ));
    }
    page.raw("</ul>\n");
    write_whole(&out.join("index.html"), page.html().as_bytes())?;
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    let text = format!("{:#}\n", json!({ "genomes": names }));
    write_whole(&out.join("summary.json"), text.as_bytes())?;
    Ok(())
}
