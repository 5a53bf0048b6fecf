//! Readers hold against bytes of any kind: no panic, no endless loop, no memory beyond the input.
//!
//! `CISTRON_FUZZ_CASES` sets the cases of each target; the documents come from a seed, so that a
//! failing one is a number to try again.

use std::io::Cursor;

use cistron_genome::fasta::{Genome, Piece, Reader as FastaReader};
use cistron_genome::gff::Annotation;
use cistron_variant::aliases::ContigAliases;
use cistron_variant::annotate::{Declaration, splice_header, splice_record, strip};
use cistron_variant::dms::mutation;
use cistron_variant::dms::table::{Columns, Table};
use cistron_variant::site::Site;
use cistron_variant::status::Status;
use cistron_variant::vcf::Reader as VcfReader;
use proptest::prelude::*;

const VCF: &[u8] = b"##fileformat=VCFv4.2\n##contig=<ID=c,length=40>\n##INFO=<ID=DP,Number=1,\
Type=Integer,Description=\"x\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n\
c\t2\t.\tC\tT,G\t50.00\tPASS\tDP=3;CIS_LLR=1,2\tGT\t0/1\nc\t4\trs1\tTAC\tT,*,<DEL>\t.\t.\t.\tGT\t.\n\
c\t9\t.\tG\tG[c:1[,]c:2]A\t.\t.\tDP\tGT\t1\nd\t1\t.\tA\t.\t.\t.\t.\tGT\t1\n";
const FASTA: &[u8] = b">c a circular thing\nACGTACGTAC\nGTNRYACGTA\n\n>d\r\nacgt\r\n;old\n>e\n";
const GFF: &[u8] = b"##gff-version 3\n##sequence-region c 1 40\nc\tx\tregion\t1\t40\t.\t+\t.\t\
ID=c;Is_circular=true\nc\tx\tCDS\t3\t11\t.\t-\t0\tID=a;Name=b%20c;transl_table=4\nc\tx\tCDS\t30\t\
50\t1e-3\t?\t2\tID=a;pseudo=true\n##FASTA\n>c\nACGT\n";
const TABLE: &[u8] =
    b"mutant,mutated_sequence,DMS_score,DMS_score_bin\nA2G,MG,0.5,1\n\"A2V:M1L\",LV,\
NA,0\np.Ala2Ter,x,1e9,\nc.4_6delinsGGT,,nan,2\n";

/// Bytes that parsers look for.
const SPECIAL: &[u8] = b"\t\n\r;=,.:>#\0\xff0123456789ACGTN-+*<>[]%\"'_ e/|\x1f\x8b";

/// A well mixed stream of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// A document that was right once, or never.
fn document(seed: u64, right: &[u8]) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    if numbers.below(10) == 0 {
        let length = numbers.below(200);
        return (0..length).map(|_| numbers.next() as u8).collect();
    }
    let mut bytes = right.to_vec();
    for _ in 0..=numbers.below(6) {
        let at = numbers.below(bytes.len() + 1);
        let length = numbers.below(12).min(bytes.len() - at);
        match numbers.below(6) {
            0 => drop(bytes.drain(at..at + length)),
            1 => bytes.truncate(at),
            2 => {
                let copied = bytes[at..at + length].to_vec();
                let to = numbers.below(bytes.len() + 1);
                bytes.splice(to..to, copied);
            }
            3 => {
                let byte = numbers.next() as u8;
                bytes.insert(at, byte);
            }
            _ => {
                let byte = SPECIAL[numbers.below(SPECIAL.len())];
                match at < bytes.len() {
                    true => bytes[at] = byte,
                    false => bytes.push(byte),
                }
            }
        }
    }
    bytes
}

fn genome() -> &'static Genome {
    static GENOME: std::sync::OnceLock<Genome> = std::sync::OnceLock::new();
    GENOME.get_or_init(|| {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("g.fna");
        std::fs::write(&path, ">c\nACGTACGTACGTACGTACGTACGTACGTACGTACGTACGT\n").expect("written");
        Genome::read(&path).expect("FASTA")
    })
}

fn read_vcf(bytes: &[u8]) -> Result<(), String> {
    let input = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(reader) = VcfReader::new(input, "x.vcf") else {
        return Ok(());
    };
    let declaration = Declaration {
        llr: "x".into(),
        consequence: None,
        provenance: None,
        shard: None,
    };
    let mut out = splice_header(reader.header(), &declaration);
    let aliases = ContigAliases::default();
    let mut whole = true;
    for record in reader {
        let Ok(record) = record else {
            whole = false;
            break;
        };
        let site = Site::locate(&record, genome(), &aliases);
        let scores: Vec<Result<f32, Status>> = site
            .alleles
            .iter()
            .map(|alleles| alleles.as_ref().map(|_| -0.5).map_err(|status| *status))
            .collect();
        match splice_record(&record, &scores, None) {
            Ok(line) => out.extend(line),
            Err(_) => whole = false,
        }
    }
    // Our keys go away twice as they do once.
    let stripped = strip(&out);
    if whole && strip(&stripped) != stripped {
        return Err("strip is not idempotent".into());
    }
    Ok(())
}

fn read_fasta(bytes: &[u8]) -> Result<(), String> {
    let mut reader = FastaReader::new(Cursor::new(bytes), "x.fna".into());
    let mut bases = 0;
    while let Ok(Some(piece)) = reader.next_piece() {
        if let Piece::Bases(piece) = piece {
            bases += piece.len();
        }
        if bases > bytes.len() {
            return Err(format!("{bases} bases of {} bytes", bytes.len()));
        }
    }
    Ok(())
}

fn read_gff(bytes: &[u8]) {
    let path = "x.gff3".as_ref();
    for genome in [None, Some(genome())] {
        let _read = Annotation::parse(Cursor::new(bytes), path, genome);
    }
}

fn read_table(bytes: &[u8]) {
    let read = Table::parse(Cursor::new(bytes), "x.csv".into(), &Columns::default());
    for row in read.iter().flat_map(|table| &table.rows) {
        let _changes = mutation::parse(&row.mutant);
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("CISTRON_FUZZ_CASES").ok();
    ProptestConfig {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(5_000),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn vcf(seed in any::<u64>()) {
        prop_assert_eq!(read_vcf(&document(seed, VCF)), Ok(()));
    }

    #[test]
    fn fasta(seed in any::<u64>()) {
        prop_assert_eq!(read_fasta(&document(seed, FASTA)), Ok(()));
    }

    #[test]
    fn gff(seed in any::<u64>()) {
        read_gff(&document(seed, GFF));
    }

    #[test]
    fn table(seed in any::<u64>()) {
        read_table(&document(seed, TABLE));
    }
}
