//! Our keys in the header and in INFO.
//!
//! Only the header lines we add and the INFO column may differ between input and output.
//! [`strip`] takes them away again, which gives the bytes of the input.

mod header;
mod info;

pub use header::{Declaration, Provenance, splice_header};
pub use info::{AnnotateError, Effect, Score, splice_record};

use crate::vcf::body_len;

/// INFO key of the score: alternate minus reference log-likelihood.
pub const LLR: &str = "CIS_LLR";
/// INFO key of the [`Status`](crate::status::Status) words.
pub const STATUS: &str = "CIS_STATUS";

/// INFO key of the [`Consequence`](crate::consequence::Consequence) words.
pub const CONSEQUENCE: &str = "CIS_CSQ";
/// INFO key of the genes that they are about.
pub const GENE: &str = "CIS_GENE";

/// Every key of ours.
const KEYS: [&str; 4] = [LLR, STATUS, CONSEQUENCE, GENE];

/// Removes our header lines and INFO fields from the text of a VCF. A record without other
/// INFO fields is left with `.`.
pub fn strip(vcf: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(vcf.len());
    for line in vcf.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"#") {
            if !header::is_ours(line) {
                out.extend_from_slice(line);
            }
            continue;
        }
        let (body, ending) = line.split_at(body_len(line));
        for (i, column) in body.split(|byte| *byte == b'\t').enumerate() {
            if i > 0 {
                out.push(b'\t');
            }
            match i {
                7 => out.extend(info::without_ours(column)),
                _ => out.extend_from_slice(column),
            }
        }
        out.extend_from_slice(ending);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;
    use crate::vcf::{Column, Reader};
    use proptest::prelude::*;
    use std::io::Cursor;

    fn declaration(provenance: bool) -> Declaration {
        Declaration {
            llr: "score".into(),
            consequence: None,
            provenance: provenance.then(|| Provenance {
                version: "0.1.0".into(),
                command: "score vcf x".into(),
                model: "nano".into(),
                reference: "g.fna".into(),
            }),
            shard: None,
        }
    }

    /// Scores made of the text of the ALT, so that all kinds occur.
    fn annotate(vcf: &[u8], provenance: bool) -> Vec<u8> {
        let reader = Reader::new(Box::new(Cursor::new(vcf.to_vec())), "in.vcf").unwrap();
        let mut out = splice_header(reader.header(), &declaration(provenance));
        for record in reader {
            let record = record.unwrap();
            let scores: Vec<Score> = record
                .alts()
                .enumerate()
                .map(|(i, alt)| match alt {
                    [b'A' | b'C', ..] => Ok(alt.len() as f32 - i as f32 / 3.0),
                    _ => Err(Status::ALL[1 + (alt.len() + i) % 9]),
                })
                .collect();
            out.extend(splice_record(&record, &scores, None).unwrap());
        }
        out
    }

    fn info() -> impl Strategy<Value = String> {
        let field = prop_oneof![
            Just("DB".to_owned()),
            Just("CIS_LLRX=1".to_owned()),
            Just("XCIS_STATUS".to_owned()),
            Just("cis_llr=1".to_owned()),
            Just("CIS_GENES=a".to_owned()),
            Just(String::new()),
            "[A-Z]{1,4}=[0-9a-z.,=|: ]{0,6}",
        ];
        let fields = prop::collection::vec(field, 1..5).prop_map(|fields| fields.join(";"));
        prop_oneof![
            Just(".".to_owned()),
            fields.prop_filter("empty", |f| !f.is_empty())
        ]
    }

    prop_compose! {
        fn line(samples: usize)(
            chrom in "[a-z0-9. ]{1,4}", pos in 0u64..99, id in "[!-:<-~]{1,3}",
            reference in "[ACGTacgtN]{1,4}",
            alt in prop::collection::vec("[ACGTNacgt]{1,4}|<DEL>|\\*|<\\*>|A\\[c:1\\[", 1..4),
            info in info(), sample in "[!-~]{1,4}",
        ) -> String {
            let alt = alt.join(",");
            let fixed = format!("{chrom}\t{pos}\t{id}\t{reference}\t{alt}\t50.00\tq10\t{info}");
            std::iter::once(fixed).chain(vec![sample; samples]).collect::<Vec<_>>().join("\t")
        }
    }

    prop_compose! {
        fn text()(samples in 0usize..3)(
            samples in Just(samples),
            meta in prop::collection::vec("##[a-z_]{1,9}=[ -~]{1,20}", 0..4),
            lines in prop::collection::vec(line(if samples == 0 { 0 } else { samples + 1 }), 0..8),
            crlf in any::<bool>(), last in any::<bool>(),
        ) -> String {
            let mut columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO".to_owned();
            if samples > 0 {
                columns.push_str("\tFORMAT");
            }
            (0..samples).for_each(|i| columns.push_str(&format!("\ts{i}")));
            let all = [vec!["##fileformat=VCFv4.3".into()], meta, vec![columns], lines].concat();
            let ending = if crlf { "\r\n" } else { "\n" };
            all.join(ending) + if last { ending } else { "" }
        }
    }

    proptest! {
        #[test]
        fn output_less_our_keys_is_the_input(text in text(), provenance in any::<bool>()) {
            let out = annotate(text.as_bytes(), provenance);
            prop_assert_eq!(String::from_utf8(strip(&out)).unwrap(), text.clone());
            // A second round replaces and never doubles.
            prop_assert_eq!(annotate(&out, provenance), out.clone());
            prop_assert_eq!(strip(text.as_bytes()), text.as_bytes());
            // Nothing but INFO differs, and the line ending stays.
            let open = |vcf: &[u8]| Reader::new(Box::new(Cursor::new(vcf.to_vec())), "x").unwrap();
            for (before, after) in open(text.as_bytes()).zip(open(&out)) {
                let (before, after) = (before.unwrap(), after.unwrap());
                prop_assert_eq!(before.column(Column::Qual), after.column(Column::Qual));
                let (b, a) = (before.info_range(), after.info_range());
                prop_assert_eq!(&before.raw()[..b.start], &after.raw()[..a.start]);
                prop_assert_eq!(&before.raw()[b.end..], &after.raw()[a.end..]);
            }
        }
    }

    #[test]
    fn a_whole_file() {
        let text = "##fileformat=VCFv4.2\n##x=y\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n\
                    c\t1\t.\tA\tC,*\t50.00\t.\t.\nc\t2\t.\tA\t.\t.\t.\tDP=1;INDEL";
        let out = String::from_utf8(annotate(text.as_bytes(), true)).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..2], ["##fileformat=VCFv4.2", "##x=y"]);
        assert!(lines[2].starts_with("##INFO=<ID=CIS_LLR,Number=A,Type=Float,"));
        assert!(lines[3].starts_with("##INFO=<ID=CIS_STATUS,Number=A,Type=String,"));
        assert!(lines[8].starts_with("#CHROM"));
        assert_eq!(
            lines[9],
            "c\t1\t.\tA\tC,*\t50.00\t.\tCIS_LLR=1.0,.;CIS_STATUS=OK,SYMBOLIC"
        );
        assert_eq!(lines[10], "c\t2\t.\tA\t.\t.\t.\tDP=1;INDEL;CIS_STATUS=STAR");
        assert!(!out.ends_with('\n'));
    }
}
