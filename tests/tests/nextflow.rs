//! Nextflow runs the pipeline on toy data: scattered is single, resumed is whole, failures are
//! seen, and stubs make what is declared.

use std::path::Path;

use cistron_tests::engine::{Run, check_variants, nextflow, succeed, toy_folder, workflows};

fn arguments(more: &[&str]) -> Vec<String> {
    let pipeline = workflows().join("nextflow");
    let fixed = ["run", &pipeline.to_string_lossy(), "-profile", "test"];
    let all = fixed.iter().chain(more);
    all.map(|text| (*text).to_owned()).collect()
}

fn start(engine: &Path, folder: &Path, more: &[&str]) -> Run {
    let arguments = arguments(more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Run::start(engine, &arguments, folder)
}

/// What the test profile makes, besides folders.
const OUTPUTS: [&str; 13] = [
    "dms/J.json",
    "dms/J.tsv",
    "eval/lambda.json",
    "eval/phiX174.svg",
    "genes/phiX174.tsv",
    "heads/J/metrics.json",
    "pipeline_info/software_versions.yml",
    "predictions/J.tsv",
    "pretrain/metrics.jsonl",
    "pretrain/model/config.json",
    "tracks/lambda/summary.json",
    "variants/lambda_calls.vcf.gz",
    "variants/phiX174_calls.vcf.gz.tbi",
];

#[test]
fn a_killed_run_goes_on_and_parts_make_the_whole() {
    let Some(engine) = nextflow() else { return };
    let folder = toy_folder().unwrap();
    let results = folder.path().join("results");
    let model = results.join("pretrain/model/model.safetensors");
    let eval = results.join("eval/phiX174.json");
    start(&engine, folder.path(), &[]).kill_when(|| model.is_file() && eval.is_file());

    let (success, printed) = start(&engine, folder.path(), &["-resume"]).finish();
    assert!(success, "{printed}");
    for done in ["CORPUSBUILD (corpus)", "PRETRAIN (corpus)"] {
        let line = format!("Cached process > CISTRON:CISTRON_{done}");
        assert!(printed.contains(&line), "{line} is absent:\n{printed}");
    }
    check_variants(
        folder.path(),
        &results.join("variants"),
        &results.join("pretrain/model"),
    );
    for name in OUTPUTS {
        assert!(results.join(name).is_file(), "{name} is absent");
    }
    let versions = std::fs::read_to_string(results.join("pipeline_info/software_versions.yml"));
    let line = format!("cistron: {}", env!("CARGO_PKG_VERSION"));
    assert!(versions.unwrap().contains(&line));
}

#[test]
fn a_bad_vcf_stops_the_run_and_its_message_is_seen() {
    let Some(engine) = nextflow() else { return };
    let folder = toy_folder().unwrap();
    let bad = folder.path().join("workflows/toy/lambda.vcf");
    let text = std::fs::read_to_string(&bad).unwrap();
    std::fs::write(&bad, text.replacen("NC_001416.1\t", "NC_001416.1 ", 70)).unwrap();
    let table = folder.path().join("workflows/toy/variants.tsv");
    let more = [
        "--variants",
        &table.to_string_lossy(),
        "--model",
        "nano",
        "--steps",
        "score_vcf",
        "--score_vcf_args",
        "--context 512",
    ];
    let (success, printed) = start(&engine, folder.path(), &more).finish();
    assert!(!success, "{printed}");
    assert!(printed.contains("tab-separated columns"), "{printed}");
    assert!(
        !folder
            .path()
            .join("results/variants/lambda_calls.vcf.gz")
            .exists()
    );
}

#[test]
fn stubs_make_every_declared_output() {
    let Some(engine) = nextflow() else { return };
    let folder = toy_folder().unwrap();
    let steps = "eval,score_vcf,score_genes,tracks,score_dms,head,saturate";
    let arguments = arguments(&["-stub-run", "--steps", steps]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    succeed(&engine, &arguments, folder.path());
    let saturate = ["saturate/lambda.tsv.gz", "saturate/phiX174.tsv.gz"];
    for name in OUTPUTS.into_iter().chain(saturate) {
        let path = folder.path().join("results").join(name);
        assert!(path.is_file(), "{name} is absent");
    }
}

#[test]
fn tables_and_parameters_are_checked() {
    let Some(engine) = nextflow() else { return };
    let folder = toy_folder().unwrap();
    let table = folder.path().join("workflows/toy/genomes.tsv");
    let text = std::fs::read_to_string(&table).unwrap();
    std::fs::write(&table, text.replacen("phiX174.gff3", "none.gff3", 1)).unwrap();
    let more = ["--input", &table.to_string_lossy()];
    let (success, printed) = start(&engine, folder.path(), &more).finish();
    assert!(
        !success && printed.contains("none.gff3: no such file"),
        "{printed}"
    );
    let (success, printed) = start(&engine, folder.path(), &["--shard", "2"]).finish();
    assert!(
        !success && printed.contains("--shard: unknown; there are"),
        "{printed}"
    );
}
