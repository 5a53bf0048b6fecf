//! Builds a corpus and prints speed and peak memory:
//! `cargo run --release -p cistron-genome --example corpus_build -- OUT FASTA…`

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use cistron_genome::corpus::CorpusBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let out = paths.next().ok_or("expected OUT FASTA…")?;
    let builder = paths.fold(CorpusBuilder::new().force(true), CorpusBuilder::fasta);

    let start = Instant::now();
    let corpus = builder.build(&out)?;
    let built = start.elapsed().as_secs_f64();
    let megabases = corpus.stats().total.bases as f64 / 1e6;
    println!(
        "build   {megabases:.1} Mb in {built:.3} s, {:.0} Mb/s",
        megabases / built
    );
    println!("peak    {}", peak_memory().unwrap_or("unknown".to_owned()));

    let start = Instant::now();
    corpus.verify()?;
    let verified = start.elapsed().as_secs_f64();
    println!("verify  {verified:.3} s, {:.0} Mb/s", megabases / verified);
    Ok(())
}

/// Largest resident size of this process so far, as Linux tells it.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().to_owned())
}
