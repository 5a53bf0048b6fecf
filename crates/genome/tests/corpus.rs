//! A corpus gives back what went into it, and says what is wrong.

use std::fs;
use std::path::{Path, PathBuf};

use cistron_genome::corpus::{Corpus, CorpusBuilder, CorpusError, Split, genome_name};
use cistron_genome::fasta::Genome;
use proptest::prelude::*;
use tempfile::TempDir;

/// A folder with FASTA files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn build(&self, names: &[&str]) -> Result<Corpus, CorpusError> {
        let builder = CorpusBuilder::new();
        let add = |builder: CorpusBuilder, name: &&str| builder.fasta(self.path(name));
        names.iter().fold(builder, add).build(&self.path("corpus"))
    }

    fn failure(&self, names: &[&str]) -> String {
        let message = self.build(names).unwrap_err().to_string();
        let mut entries = fs::read_dir(self.0.path()).unwrap();
        let left = entries.find(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name == "corpus" || name.to_string_lossy().starts_with('.')
        });
        assert!(left.is_none(), "{left:?} was left behind");
        message
    }
}

fn export(corpus: &Corpus, genome: usize, width: Option<usize>) -> String {
    let mut text = Vec::new();
    corpus.export_fasta(genome, width, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Bases with runs of other codes, in either case.
fn bases() -> impl Strategy<Value = String> {
    let stretch = prop_oneof![
        6 => "[ACGT]{0,40}",
        2 => "[acgt]{0,9}",
        2 => "N{1,30}",
        1 => "[RYSWKMBDHVNryswkmbdhvn.-]{1,9}",
    ];
    prop::collection::vec(stretch, 0..8).prop_map(|parts| parts.concat())
}

/// FASTA text with contigs of any kind, the lines of each contig equally long.
fn fasta() -> impl Strategy<Value = String> {
    let contig = (bases(), 1usize..70, "( [ -~]{0,8}[!-~])?");
    prop::collection::vec(contig, 1..7).prop_map(|contigs| {
        let mut text = String::new();
        for (i, (bases, width, description)) in contigs.iter().enumerate() {
            text += &format!(">contig{i}{description}\n");
            for line in bases.as_bytes().chunks(*width) {
                text += std::str::from_utf8(line).unwrap();
                text += "\n";
            }
        }
        text
    })
}

fn upper_case_sequences(text: &str) -> String {
    let lines = text
        .split_inclusive('\n')
        .map(|line| match line.as_bytes()[0] {
            b'>' => line.to_owned(),
            _ => line.to_ascii_uppercase(),
        });
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn fasta_comes_back_byte_for_byte(one in fasta(), two in fasta()) {
        let files = Files::new();
        let path = files.write("one.fna", &one);
        files.write("two.fna", &two);
        let corpus = files.build(&["one.fna", "two.fna"]).unwrap();
        prop_assert_eq!(export(&corpus, 0, None), upper_case_sequences(&one));
        prop_assert_eq!(export(&corpus, 1, None), upper_case_sequences(&two));
        corpus.verify().unwrap();

        let genome = Genome::read(&path).unwrap();
        let entry = &corpus.genomes()[0];
        prop_assert_eq!(genome.digest(), entry.sha256.clone());
        let bases = genome.contigs.iter().flat_map(|contig| &contig.bases);
        let is_acgt = |base: &&u8| b"ACGT".contains(base);
        prop_assert_eq!(bases.clone().filter(|b| !is_acgt(b)).count() as u64, entry.ambiguous);
        let acgt = bases.clone().filter(is_acgt).count();
        let gc = bases.filter(|base| b"GC".contains(base)).count();
        prop_assert!((entry.gc - gc as f64 / acgt.max(1) as f64).abs() < 1e-12);
    }

    #[test]
    fn any_range_reads_as_a_slice(text in fasta(), a in 0u64..300, b in 0u64..300) {
        let files = Files::new();
        let genome = Genome::read(&files.write("g.fa", &text)).unwrap();
        let corpus = files.build(&["g.fa"]).unwrap();
        let mut read = b"stale".to_vec();
        for (i, contig) in genome.contigs.iter().enumerate() {
            let size = contig.bases.len() as u64;
            let range = a.min(b).min(size)..a.max(b).min(size);
            corpus.contig(0, i).read(range.clone(), &mut read).unwrap();
            prop_assert_eq!(&read, &contig.bases[range.start as usize..range.end as usize]);
        }
    }

    #[test]
    fn any_line_width_holds_the_same_bases(text in fasta(), width in 1usize..90) {
        let files = Files::new();
        let genome = Genome::read(&files.write("g.fa", &text)).unwrap();
        let corpus = files.build(&["g.fa"]).unwrap();
        let wrapped = export(&corpus, 0, Some(width));
        prop_assert!(wrapped.lines().all(|l| l.starts_with('>') || l.len() <= width));
        let again = Genome::read(&files.write("again.fa", wrapped)).unwrap();
        prop_assert_eq!(again.contigs, genome.contigs);
    }
}

#[test]
fn contigs_longer_than_a_piece_come_back() {
    let files = Files::new();
    let mut text = String::from(">long with runs\n");
    for i in 0..9000usize {
        let run = "N".repeat(i % 41 * (i % 7));
        text += &format!("ACGGTTA{}{run}", &"GATTACA"[..i % 8]);
    }
    // Runs far longer than the pieces in which bases are read.
    text += &"N".repeat(300_000);
    text += "\n>next\nRRR\n";
    files.write("g.fna", &text);
    let corpus = files.build(&["g.fna"]).unwrap();
    assert_eq!(export(&corpus, 0, None), text);
    corpus.verify().unwrap();
}

#[test]
fn names_splits_and_figures() {
    let files = Files::new();
    files.write("a.fna", ">x\nACGTN\n>y\n\n");
    files.write("b.fasta", ">x\nGGCC\n");
    files.write("c.fa", ">x\nGGCC\n");
    let corpus = CorpusBuilder::new()
        .fasta(files.path("a.fna"))
        .fasta(files.path("b.fasta"))
        .genome("other", files.path("c.fa"), Split::Train)
        .validation(["b"])
        .build(&files.path("corpus"))
        .unwrap();
    let splits = corpus.genomes().iter().map(|g| (g.name.as_str(), g.split));
    let expected = [
        ("a", Split::Train),
        ("b", Split::Val),
        ("other", Split::Train),
    ];
    assert!(splits.eq(expected));
    let stats = corpus.stats();
    assert_eq!((stats.total.genomes, stats.total.contigs), (3, 4));
    assert_eq!((stats.train.bases, stats.train.ambiguous), (9, 1));
    assert_eq!((stats.val.bases, stats.val.gc), (4, 1.0));
    assert_eq!(stats.train.gc, 6.0 / 8.0);
    assert_eq!(stats.identical, [["b", "other"]]);
    assert_eq!(corpus.genome_index("other").unwrap(), 2);
    assert!(corpus.contig(0, 1).is_empty());
    assert_eq!(corpus.genomes()[1].source, "b.fasta");
}

#[test]
fn a_genome_is_named_after_its_file() {
    for (file, name) in [
        ("dir/E_coli.K12.fna.gz", "E_coli.K12"),
        ("x.fa", "x"),
        ("x.fasta.bgz", "x"),
        ("x.seq", "x.seq"),
        ("x.gz", "x"),
        (".fna", ".fna"),
        ("-", "stdin"),
    ] {
        assert_eq!(genome_name(Path::new(file)), name);
    }
}

#[test]
fn bad_inputs_leave_no_folder() {
    let files = Files::new();
    files.write("ok.fna", ">x\nACGT\n");
    files.write("empty.fna", "");
    files.write("protein.fna", ">x\nACGT\n>p\nMSTLE\n");
    files.write("twice.fna", ">x\nA\n>x\nC\n");
    files.write("cut.fna.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2]);
    assert!(
        files
            .failure(&["ok.fna", "none.fna"])
            .contains("none.fna: ")
    );
    assert!(
        files
            .failure(&["empty.fna"])
            .contains("empty.fna: empty FASTA")
    );
    assert!(
        files
            .failure(&["ok.fna", "protein.fna"])
            .contains("protein.fna, line 4")
    );
    assert!(files.failure(&["twice.fna"]).contains("twice.fna, line 3"));
    assert!(
        files
            .failure(&["cut.fna.gz"])
            .contains("cut.fna.gz: truncated")
    );
    assert!(files.failure(&[]).contains("no FASTA file"));
    let twice = files.failure(&["ok.fna", "ok.fna"]);
    assert!(twice.contains("two genomes are named \"ok\""), "{twice}");
}

#[test]
fn unknown_validation_genomes_are_named() {
    let files = Files::new();
    let builder = CorpusBuilder::new().fasta(files.write("ecoli.fna", ">x\nACGT\n"));
    let error = builder.validation(["ecoly"]).build(&files.path("corpus"));
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("no genome \"ecoly\" (genomes: ecoli)"),
        "{message}"
    );
    assert!(message.contains("did you mean \"ecoli\""), "{message}");
}

#[test]
fn an_existing_output_needs_force() {
    let files = Files::new();
    files.write("a.fna", ">x\nACGT\n");
    files.write("b.fna", ">x\nGG\n");
    files.build(&["a.fna"]).unwrap();
    let message = files.build(&["b.fna"]).unwrap_err().to_string();
    assert!(message.contains("exists already"), "{message}");
    let builder = CorpusBuilder::new().fasta(files.path("b.fna")).force(true);
    let corpus = builder.build(&files.path("corpus")).unwrap();
    assert_eq!(export(&corpus, 0, None), ">x\nGG\n");
}

#[test]
fn changes_since_the_manifest_are_noticed() {
    let files = Files::new();
    files.write("a.fna", ">x\nACGTACGTNNAC\n");
    let folder = files.path("corpus");
    let build = || {
        let builder = CorpusBuilder::new().fasta(files.path("a.fna")).force(true);
        builder.build(&folder).unwrap()
    };
    let changed = |message: String| {
        assert!(
            message.contains("corpus changed since its manifest"),
            "{message}"
        );
    };
    for name in ["bases.2bit", "runs.bin"] {
        drop(build());
        let whole = fs::read(folder.join(name)).unwrap();
        fs::write(folder.join(name), &whole[1..]).unwrap();
        changed(Corpus::open(&folder).unwrap_err().to_string());

        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        fs::write(folder.join(name), flipped).unwrap();
        let corpus = Corpus::open(&folder).unwrap();
        changed(corpus.verify().unwrap_err().to_string());
    }
    build();
    let manifest = folder.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for (from, to) in [
        ("\"length\": 12", "\"length\": 11"),
        ("\"length\": 12", "\"length\": 13"),
        ("\"bases\": 12", "\"bases\": 11"),
        ("\"offset\": 0", "\"offset\": 4"),
        ("\"packed_bytes\": 3", "\"packed_bytes\": 4"),
        ("\"runs\": 1", "\"runs\": 2"),
    ] {
        assert!(text.contains(from), "{text}");
        fs::write(&manifest, text.replace(from, to)).unwrap();
        changed(Corpus::open(&folder).unwrap_err().to_string());
    }
    fs::write(&manifest, text.replace("\"format\": 1", "\"format\": 7")).unwrap();
    let message = Corpus::open(&folder).unwrap_err().to_string();
    assert!(message.contains("format 7"), "{message}");
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let message = Corpus::open(&folder).unwrap_err().to_string();
    assert!(message.contains("not a corpus manifest"), "{message}");
    let message = Corpus::open(&files.path("nowhere"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn ranges_outside_a_contig_are_errors() {
    let files = Files::new();
    files.write("a.fna", ">x\nACGT\n>y\nCC\n");
    let corpus = files.build(&["a.fna"]).unwrap();
    let mut bases = Vec::new();
    let error = corpus.contig(0, 0).read(2..5, &mut bases).unwrap_err();
    assert!(
        error.to_string().contains("\"x\" has 4 bases; 2..5"),
        "{error}"
    );
    #[expect(clippy::reversed_empty_ranges)]
    let reversed = 3..2;
    assert!(corpus.contig(0, 0).read(reversed, &mut bases).is_err());
    assert!(corpus.contig(0, 0).read(4..4, &mut bases).is_ok());
}
