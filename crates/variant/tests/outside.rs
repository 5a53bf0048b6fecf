//! `bcftools` and `tabix` must read what this crate writes.

use std::path::Path;
use std::process::Command;

use cistron_genome::coord::Strand;
use cistron_genome::fasta::Genome;
use cistron_variant::aliases::ContigAliases;
use cistron_variant::annotate::{
    Declaration, Provenance, Score, splice_header, splice_record, strip,
};
use cistron_variant::mismatch::{MismatchGuard, MismatchPolicy};
use cistron_variant::site::Site;
use cistron_variant::vcf::Reader;
use cistron_variant::windows::windows;
use cistron_variant::writer::{VcfWriter, WriterOptions};

const FASTA: &str = ">chr\nACGTACGTTGCARCCNGGTTAACC\n>p1\nGGGGCCCCAAAATTTT\n";
const HEADER: &str = "##fileformat=VCFv4.3\n\
    ##contig=<ID=chr,length=24>\n##contig=<ID=p1,length=16>\n##contig=<ID=odd>\n\
    ##INFO=<ID=DP,Number=1,Type=Integer,Description=\"Depth\">\n\
    ##INFO=<ID=DB,Number=0,Type=Flag,Description=\"Known\">\n\
    ##INFO=<ID=END,Number=1,Type=Integer,Description=\"End\">\n\
    ##FILTER=<ID=PASS,Description=\"All filters passed\">\n\
    ##ALT=<ID=DEL,Description=\"Deletion\">\n##ALT=<ID=*,Description=\"Any\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n";
/// Columns CHROM, POS, REF, ALT and INFO, then the expected status words.
const RECORDS: [(&str, &str); 14] = [
    ("chr 0 N . .", "NO_ALT"),
    ("chr 1 A C,G DP=3", "OK,OK"),
    (
        "chr 2 C T,*,<DEL>,<*> DB;DP=7;END=20",
        "OK,STAR,SYMBOLIC,SYMBOLIC",
    ),
    ("chr 5 acg a,aCGTT .", "OK,OK"),
    ("chr 6 C G[p1:3[,.T DB", "BREAKEND,BREAKEND"),
    ("chr 7 A T .", "REF_MISMATCH"),
    ("chr 13 A G .", "OK"),
    ("chr 16 N A DP=1", "NON_ACGT"),
    ("chr 17 G GN,R .", "NON_ACGT,NON_ACGT"),
    ("chr 23 CC C .", "TOO_LONG"),
    ("chr 24 C A,CAAAAAAAAAAAA .", "OK,TOO_LONG"),
    ("chr 25 A C .", "OUT_OF_RANGE"),
    ("p1 16 TT T .", "OUT_OF_RANGE"),
    ("odd 1 A C .", "NO_CONTIG"),
];

fn input() -> String {
    let mut text = HEADER.to_owned();
    for (columns, _) in RECORDS {
        let c: Vec<&str> = columns.split(' ').collect();
        let line = [
            c[0], c[1], ".", c[2], c[3], "50.00", "PASS", c[4], "GT", "1",
        ];
        text.push_str(&(line.join("\t") + "\n"));
    }
    text
}

/// Annotates a VCF with the difference in GC of the windows for a score.
fn annotate(vcf: &Path, fasta: &Path, out: &Path, write_index: bool) {
    let genome = Genome::read(fasta).unwrap();
    let aliases = ContigAliases::default();
    let mut guard = MismatchGuard::new(MismatchPolicy::Skip);
    let declaration = Declaration {
        consequence: None,
        llr: "Difference in GC".into(),
        provenance: Some(Provenance {
            version: "0.1.0".into(),
            command: "test".into(),
            model: "none".into(),
            reference: "g.fna".into(),
        }),
        shard: None,
    };
    let options = WriterOptions {
        write_index,
        ..WriterOptions::default()
    };
    let mut writer = VcfWriter::create(out, options).unwrap();
    let mut reader = Reader::open(vcf).unwrap();
    assert!(reader.header().warnings().is_empty());
    let header = splice_header(reader.header(), &declaration);
    writer.write_header(&header).unwrap();
    while let Some(record) = reader.next_record().unwrap() {
        let site = Site::locate(&record, &genome, &aliases);
        guard.observe(&record, &site).unwrap();
        let score = |alleles: &cistron_variant::allele::Alleles| -> Score {
            let contig = site.contig.expect("scorable alleles lie on a contig");
            let (reference, alternate) = (&alleles.reference, &alleles.alternate);
            let cut = windows(
                contig,
                alleles.position,
                reference,
                alternate,
                20,
                Strand::Forward,
            )?;
            let gc = |bases: &[u8]| bases.iter().filter(|b| b"CG".contains(b)).count() as f32;
            Ok(gc(&cut.alternate) - gc(&cut.reference))
        };
        let alleles = site.alleles.iter();
        let scores: Vec<Score> = alleles
            .map(|a| a.as_ref().map_err(|s| *s).and_then(score))
            .collect();
        let line = splice_record(&record, &scores, None).unwrap();
        writer.write_record(&record, &line).unwrap();
    }
    guard.finish().unwrap();
    writer.finish().unwrap();
}

/// Standard output of a tool, or nothing, with a message, when it is not installed.
fn run(tool: &str, arguments: &[&str], folder: &Path) -> Option<String> {
    let Ok(output) = Command::new(tool)
        .args(arguments)
        .current_dir(folder)
        .output()
    else {
        eprintln!("SKIPPED: {tool} is not installed; the check with it was not made");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    // POS 0, a telomere, is valid and yet warned of.
    let mut complaints = errors
        .lines()
        .filter(|l| l.contains("[W::") || l.contains("[E::"));
    let is_sound = output.status.success() && complaints.all(|l| l.contains("Coordinate <= 0"));
    assert!(is_sound, "{tool} {arguments:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn prepare() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("g.fna"), FASTA).unwrap();
    std::fs::write(at("in.vcf"), input()).unwrap();
    annotate(&at("in.vcf"), &at("g.fna"), &at("out.vcf"), false);
    annotate(&at("in.vcf"), &at("g.fna"), &at("out.vcf.gz"), true);
    folder
}

#[test]
fn every_status_word_is_written() {
    let folder = prepare();
    let out = std::fs::read_to_string(folder.path().join("out.vcf")).unwrap();
    let records = out.lines().filter(|line| !line.starts_with('#'));
    for (line, (columns, words)) in records.zip(RECORDS) {
        let status = line
            .split(['\t', ';'])
            .find_map(|f| f.strip_prefix("CIS_STATUS="));
        assert_eq!(status, Some(words), "{columns}");
        assert_eq!(line.contains("CIS_LLR="), words.contains("OK"), "{columns}");
    }
    assert_eq!(String::from_utf8(strip(out.as_bytes())).unwrap(), input());
}

#[test]
fn bcftools_reads_the_output() {
    let folder = prepare();
    for file in ["out.vcf", "out.vcf.gz"] {
        let Some(text) = run(
            "bcftools",
            &["view", "--no-version", "-H", file],
            folder.path(),
        ) else {
            return;
        };
        assert_eq!(text.lines().count(), RECORDS.len());
    }
    let query = [
        "query",
        "-i",
        "INFO/CIS_LLR[*]<0",
        "-f",
        "%POS %CIS_LLR %CIS_STATUS\\n",
        "out.vcf",
    ];
    let text = run("bcftools", &query, folder.path()).unwrap();
    assert_eq!(
        text,
        "2 -1,.,.,. OK,STAR,SYMBOLIC,SYMBOLIC\n5 -1,-1 OK,OK\n24 -1,. OK,TOO_LONG\n"
    );
    // Splitting multi-allelic records relies on one value per ALT.
    let text = run("bcftools", &["norm", "-m-any", "out.vcf"], folder.path()).unwrap();
    assert!(
        text.contains("\t24\t.\tC\tA\t50\tPASS\tCIS_LLR=-1;CIS_STATUS=OK\t"),
        "{text}"
    );
}

#[test]
fn tabix_finds_records() {
    let folder = prepare();
    let lines = |region: &str| {
        let text = run("tabix", &["out.vcf.gz", region], folder.path())?;
        Some(
            text.lines()
                .map(|line| line.split('\t').nth(1).unwrap().to_owned())
                .collect(),
        )
    };
    let Some(found): Option<Vec<String>> = lines("chr:19-24") else {
        return;
    };
    assert_eq!(found, ["2", "23", "24"]);
    assert_eq!(lines("p1").unwrap(), ["16"]);
    assert_eq!(lines("odd:1-1").unwrap(), ["1"]);
}
