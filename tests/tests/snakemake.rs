//! Snakemake runs the workflow on toy data: scattered is single, resumed is whole, and failures
//! are seen.

use std::path::Path;

use cistron_tests::engine::{Run, check_variants, snakemake, succeed, toy_folder, workflows};

/// Arguments of a run of the workflow on the toy data.
fn arguments(more: &[&str]) -> Vec<String> {
    let snakefile = workflows().join("snakemake/workflow/Snakefile");
    let fixed = [
        "--snakefile",
        &snakefile.to_string_lossy(),
        "--cores",
        "2",
        "--configfile",
        "../toy/snakemake.yaml",
    ];
    let all = fixed.iter().chain(more);
    all.map(|text| (*text).to_owned()).collect()
}

fn start(engine: &Path, folder: &Path, more: &[&str]) -> Run {
    let arguments = arguments(more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Run::start(engine, &arguments, &folder.join("workflows/snakemake"))
}

#[test]
fn a_killed_run_goes_on_and_parts_make_the_whole() {
    let Some(engine) = snakemake() else { return };
    let folder = toy_folder().unwrap();
    let results = folder.path().join("workflows/snakemake/results/toy");
    let model = results.join("pretrain/model/model.safetensors");
    let part = results.join("variants/parts/lambda_calls/1-of-3.vcf.gz");
    start(&engine, folder.path(), &[]).kill_when(|| model.is_file() && part.is_file());
    let trained = std::fs::metadata(&model).unwrap().modified().unwrap();
    assert!(!results.join("variants/lambda_calls.vcf.gz").exists());

    let unlock = start(&engine, folder.path(), &["--unlock"]).finish();
    assert!(unlock.0, "{}", unlock.1);
    let (success, printed) = start(&engine, folder.path(), &[]).finish();
    assert!(success, "{printed}");
    assert!(!printed.contains("rule pretrain:"), "{printed}");
    assert_eq!(
        std::fs::metadata(&model).unwrap().modified().unwrap(),
        trained
    );
    let found = results.join("variants");
    check_variants(folder.path(), &found, &results.join("pretrain/model"));
    for name in [
        "eval/phiX174.json",
        "eval/lambda.svg",
        "genes/phiX174.tsv",
        "tracks/lambda/summary.json",
        "dms/J.tsv",
        "heads/J/metrics.json",
        "predictions/J.tsv",
        "benchmarks/gather_vcf/lambda_calls.tsv",
        "logs/pretrain.log",
    ] {
        assert!(results.join(name).is_file(), "{name} is absent");
    }
    let (success, printed) = start(&engine, folder.path(), &["-n"]).finish();
    assert!(
        success && printed.contains("Nothing to be done"),
        "{printed}"
    );

    let (success, printed) = start(&engine, folder.path(), &["--report", "report.html"]).finish();
    assert!(success, "{printed}");
    let report = folder.path().join("workflows/snakemake/report.html");
    let report = std::fs::read_to_string(report).unwrap();
    for caption in [
        "scored with the model",
        "Bits per base of",
        "around a gene",
        "rank the measured variants",
        "rows that it was not trained on",
    ] {
        assert!(report.contains(caption), "'{caption}' is not in the report");
    }
}

#[test]
fn a_bad_vcf_stops_the_run_and_its_message_is_seen() {
    let Some(engine) = snakemake() else { return };
    let folder = toy_folder().unwrap();
    let bad = folder.path().join("workflows/toy/lambda.vcf");
    let text = std::fs::read_to_string(&bad).unwrap();
    std::fs::write(&bad, text.replacen("NC_001416.1\t", "NC_001416.1 ", 70)).unwrap();
    let only = [
        "--config",
        "model=nano",
        "steps=[score_vcf]",
        "extra={score_vcf: --context 512}",
    ];
    let (success, printed) = start(&engine, folder.path(), &only).finish();
    assert!(!success, "{printed}");
    assert!(printed.contains("tab-separated columns"), "{printed}");
    let variants = folder
        .path()
        .join("workflows/snakemake/results/toy/variants");
    assert!(!variants.join("lambda_calls.vcf.gz").exists());
}

#[test]
fn the_linter_has_nothing_to_say() {
    let Some(engine) = snakemake() else { return };
    let folder = toy_folder().unwrap();
    let (success, printed) = start(&engine, folder.path(), &["--lint"]).finish();
    assert!(success && printed.contains("good condition"), "{printed}");
}

#[test]
fn every_wrapper_runs_its_example() {
    let Some(engine) = snakemake() else { return };
    let folder = toy_folder().unwrap();
    let here = folder.path();
    let wrappers = workflows().join("snakemake/wrappers");
    std::os::unix::fs::symlink(&wrappers, here.join("master")).unwrap();
    let prefix = format!("file://{}/", here.display());
    for (from, to) in [
        ("tests/data/phiX174.fna.gz", "phiX174.fna.gz"),
        ("data/demo/lambda.fna.gz", "lambda.fna.gz"),
        ("workflows/toy/phiX174.gff3", "phiX174.gff3"),
        ("workflows/toy/phiX174.vcf", "variants.vcf"),
        ("workflows/toy/phiX174_J.csv", "phiX174_J.csv"),
        ("workflows/toy/phiX174_J.faa", "phiX174_J.faa"),
        ("workflows/toy/pretrain.toml", "tiny.toml"),
    ] {
        std::fs::copy(here.join(from), here.join(to)).unwrap();
    }
    for (name, target) in [
        ("corpus", "corpus"),
        ("pretrain", "run/model"),
        ("evallm", "eval/phiX174.json"),
        ("scorevcf", "scored/1-of-2.vcf.gz scored/2-of-2.vcf.gz"),
        ("gather", "scored/all.vcf.gz"),
        ("scoregenes", "genes/phiX174.tsv"),
        ("tracks", "tracks/phiX174"),
        ("saturate", "saturate/phiX174.tsv.gz"),
        ("scoredms", "dms/J.json dms/J.tsv"),
        ("headtrain", "heads/J"),
        ("headpredict", "predictions/J.tsv"),
    ] {
        let snakefile = wrappers
            .join("bio/cistron")
            .join(name)
            .join("test/Snakefile");
        let snakefile = snakefile.to_string_lossy();
        let mut arguments = vec!["--snakefile", &snakefile, "--cores", "2"];
        arguments.extend(["--wrapper-prefix", &prefix, "--show-failed-logs"]);
        let targets: Vec<&str> = target.split(' ').collect();
        arguments.extend(&targets);
        succeed(&engine, &arguments, here);
        for target in targets {
            assert!(here.join(target).exists(), "{name}: {target} is absent");
        }
    }
}
