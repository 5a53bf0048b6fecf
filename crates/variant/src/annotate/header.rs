//! Header lines that declare and explain our keys.

use super::{CONSEQUENCE, GENE, KEYS, LLR, STATUS};
use crate::consequence::Consequence;
use crate::shard::{Shard, is_shard_line};
use crate::status::Status;
use crate::vcf::Header;

/// Keys of the header lines that say where scores came from.
const PROVENANCE: [&str; 4] = [
    "cistron_scoreVersion",
    "cistron_scoreCommand",
    "cistron_model",
    "cistron_reference",
];

/// What the header says about the scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// Description of `CIS_LLR`: what it is, its unit, the context and strands used.
    pub llr: String,
    /// The annotation that consequences come from, where they are given.
    pub consequence: Option<String>,
    /// Versions and inputs; left out, the output depends on nothing but the scores.
    pub provenance: Option<Provenance>,
    /// The part of the input that this output holds, where it is not all.
    pub shard: Option<Shard>,
}

/// Where scores came from; line breaks in any of it become spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Version of the tool, for `##cistron_scoreVersion` and `Version=` of our INFO lines.
    pub version: String,
    /// Command line, for `##cistron_scoreCommand`.
    pub command: String,
    /// Name and digest of the model, for `##cistron_model`.
    pub model: String,
    /// Name and digest of the genome, for `##cistron_reference`.
    pub reference: String,
}

/// The header with our lines before the `#CHROM` line, in place of any that were there. All
/// other lines stay byte for byte; ours end as the first line ends.
pub fn splice_header(header: &Header, declaration: &Declaration) -> Vec<u8> {
    let (columns, meta) = header.lines().split_last().expect("a header has lines");
    let mut out: Vec<u8> = Vec::new();
    for line in meta.iter().filter(|line| !is_ours(line)) {
        out.extend_from_slice(line);
    }
    for line in our_lines(declaration) {
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(header.line_ending().as_bytes());
    }
    out.extend_from_slice(columns);
    out
}

fn our_lines(declaration: &Declaration) -> Vec<String> {
    let version = declaration.provenance.as_ref().map(|p| p.version.as_str());
    let words: Vec<&str> = Status::ALL[1..].iter().map(|s| s.word()).collect();
    let status = format!("OK, or why the ALT was not scored: {}", words.join(", "));
    let mut lines = vec![
        info_line(LLR, "Float", &declaration.llr, version),
        info_line(STATUS, "String", &status, version),
    ];
    if let Some(source) = &declaration.consequence {
        let words: Vec<&str> = Consequence::ALL.iter().map(|c| c.word()).collect();
        let what = format!("Consequence by {source}: {}", words.join(", "));
        let gene = "Locus tag, gene or ID of the feature that CIS_CSQ is about";
        lines.push(info_line(CONSEQUENCE, "String", &what, version));
        lines.push(info_line(GENE, "String", gene, version));
    }
    if let Some(from) = &declaration.provenance {
        let values = [&from.version, &from.command, &from.model, &from.reference];
        let pairs = PROVENANCE.iter().zip(values);
        lines.extend(pairs.map(|(key, value)| format!("##{key}={}", one_line(value))));
    }
    lines.extend(declaration.shard.map(Shard::header_line));
    lines
}

fn info_line(id: &str, kind: &str, description: &str, version: Option<&str>) -> String {
    let description = quoted(description);
    let version = version.map(|version| format!(",Version={}", quoted(version)));
    let version = version.unwrap_or_default();
    format!(
        "##INFO=<ID={id},Number=A,Type={kind},Description={description},\
         Source=\"cistron\"{version}>"
    )
}

/// A quoted header value (VCF 4.5, section 1.4): backslash and quote are escaped.
fn quoted(text: &str) -> String {
    let escaped = one_line(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Whether a header line is one that we write.
pub(super) fn is_ours(line: &[u8]) -> bool {
    if is_shard_line(line) {
        return true;
    }
    let Some(line) = line.strip_prefix(b"##") else {
        return false;
    };
    if let Some(fields) = line.strip_prefix(b"INFO=<") {
        // ID is written before any quoted value.
        let fields = fields
            .split(|byte| *byte == b'"')
            .next()
            .unwrap_or_default();
        let mut fields = fields.split(|byte| matches!(byte, b',' | b'>'));
        let ours = KEYS.map(|key| format!("ID={key}"));
        return fields.any(|field| ours.iter().any(|id| id.as_bytes() == field));
    }
    let key = line.split(|byte| *byte == b'=').next().unwrap_or_default();
    PROVENANCE.iter().any(|ours| ours.as_bytes() == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use noodles::vcf::header::record::value::map::info::{Number, Type};

    const COLUMNS: &str = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO";

    fn header(text: &str) -> Header {
        let lines = text.split_inclusive('\n').map(|l| l.as_bytes().to_vec());
        Header::parse(lines.collect()).unwrap()
    }

    fn declaration() -> Declaration {
        Declaration {
            llr: "a \"b\" \\ c\nd".into(),
            consequence: Some("a.gff3".into()),
            provenance: Some(Provenance {
                version: "1.2.3".into(),
                command: "cistron score vcf 'a\tb'".into(),
                model: "nano;sha256=00".into(),
                reference: "g.fna;sha256=11".into(),
            }),
            shard: "2/3".parse().ok(),
        }
    }

    #[test]
    fn our_lines_are_valid() {
        let header = header(&format!("##fileformat=VCFv4.2\n{COLUMNS}\n"));
        let text = String::from_utf8(splice_header(&header, &declaration())).unwrap();
        let parsed: noodles::vcf::Header = text.parse().unwrap();
        let llr = &parsed.infos()[LLR];
        assert_eq!(
            (llr.number(), llr.ty()),
            (Number::AlternateBases, Type::Float)
        );
        assert_eq!(llr.description(), "a \"b\" \\ c d");
        let status = &parsed.infos()[STATUS];
        assert_eq!(
            (status.number(), status.ty()),
            (Number::AlternateBases, Type::String)
        );
        assert!(
            parsed.infos()[CONSEQUENCE]
                .description()
                .contains("a.gff3: intergenic, ")
        );
        assert_eq!(parsed.infos()[GENE].number(), Number::AlternateBases);
        for status in Status::ALL {
            assert!(parsed.infos()[STATUS].description().contains(status.word()));
        }
        assert!(text.contains(",Source=\"cistron\",Version=\"1.2.3\">\n"));
        assert!(text.contains("\n##cistron_scoreCommand=cistron score vcf 'a b'\n"));
        assert!(text.contains("\n##cistron_model=nano;sha256=00\n"));
        assert!(text.contains("\n##cistron_shard=2/3\n#CHROM"));
    }

    #[test]
    fn without_provenance_no_version_is_told() {
        let header = header(&format!("##fileformat=VCFv4.2\r\n{COLUMNS}"));
        let declaration = Declaration {
            provenance: None,
            shard: None,
            ..declaration()
        };
        let text = String::from_utf8(splice_header(&header, &declaration)).unwrap();
        assert!(!text.contains("Version=") && !text.contains("##cistron_"));
        assert_eq!(text.matches("\r\n").count(), 5);
        assert!(text.ends_with("INFO"));
    }

    #[test]
    fn only_our_own_lines_are_ours() {
        for line in [
            "##INFO=<ID=CIS_LLR,Number=A>\n",
            "##INFO=<Number=A,ID=CIS_STATUS>\n",
            "##INFO=<ID=CIS_LLR>",
            "##cistron_scoreVersion=0\r\n",
            "##cistron_model=x",
        ] {
            assert!(is_ours(line.as_bytes()), "{line}");
        }
        for line in [
            "##INFO=<ID=CIS_LLRX,Number=A>",
            "##INFO=<ID=X,Description=\",ID=CIS_LLR,\">",
            "##FORMAT=<ID=CIS_LLR>",
            "##cistron_modelX=1",
            "##cistron=1",
            "#CHROM\tPOS",
        ] {
            assert!(!is_ours(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn lines_that_were_there_are_replaced() {
        let plain = header(&format!("##fileformat=VCFv4.2\n{COLUMNS}\n"));
        let once = splice_header(&plain, &declaration());
        let twice = splice_header(&header(std::str::from_utf8(&once).unwrap()), &declaration());
        assert_eq!(once, twice);
    }
}
