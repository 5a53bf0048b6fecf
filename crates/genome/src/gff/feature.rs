//! One feature.

use noodles::gff;
use noodles::gff::feature::record::{Phase, Strand as GffStrand};
use noodles::gff::record::attributes::field::Value;

use crate::coord::{ContigName, Interval, Position, Strand, Topology};
use crate::fasta::Contig;
use crate::revcomp;
use crate::window::Window;

/// One line of a GFF3 file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The contig it lies on.
    pub contig: ContigName,
    /// Where it lies. Across the origin of a circular contig the end is past its length.
    pub interval: Interval,
    /// `None` for features without a strand (`.`) or of unknown strand (`?`).
    pub strand: Option<Strand>,
    /// What it is, in words of the Sequence Ontology: `gene`, `CDS` and so on.
    pub kind: String,
    /// Bases to skip before the first whole codon of a CDS: 0, 1 or 2.
    pub phase: Option<u8>,
    /// The last column.
    pub attributes: Attributes,
    /// Line in the file, from one.
    pub line: u64,
}

impl Feature {
    /// Its `ID`.
    pub fn id(&self) -> Option<&str> {
        self.attributes.get("ID")
    }

    /// Its `Name`.
    pub fn name(&self) -> Option<&str> {
        self.attributes.get("Name")
    }

    /// Its `locus_tag`.
    pub fn locus_tag(&self) -> Option<&str> {
        self.attributes.get("locus_tag")
    }

    /// Whether it is called a pseudogene (`pseudo=true`).
    pub fn is_pseudo(&self) -> bool {
        self.attributes.get("pseudo") == Some("true")
    }

    /// Its bases on its own strand, across the origin where `contig` is circular. `None`
    /// when it does not lie within the contig.
    pub fn sequence(&self, contig: &Contig) -> Option<Vec<u8>> {
        let start = i64::try_from(self.interval.start()).ok()?;
        let len = usize::try_from(self.interval.len()).ok()?;
        let begins_within = self.interval.start() < contig.bases.len() as u64;
        let fits = self.interval.end() <= contig.bases.len() as u64;
        if !begins_within || !(fits || contig.topology == Topology::Circular) {
            return None;
        }
        let window = Window::extract(contig, start, len);
        (window.bases.len() == len).then(|| match self.strand {
            Some(Strand::Reverse) => revcomp(&window.bases),
            _ => window.bases,
        })
    }

    /// Takes over a parsed line; the error says what is wrong with it.
    pub(super) fn from_record(record: &gff::Record<'_>, line: u64) -> Result<Self, String> {
        let position = |value: std::io::Result<noodles::core::Position>, column| {
            let value = value
                .ok()
                .and_then(|p| Position::new(usize::from(p) as u64));
            value.ok_or_else(|| format!("the {column} of a feature is a whole number from 1 on"))
        };
        let first = position(record.start(), "start")?;
        let last = position(record.end(), "end")?;
        let interval = Interval::from_one_based_inclusive(first, last)
            .ok_or_else(|| format!("the feature {first}-{last} has its end before its start"))?;
        let strand = match record.strand() {
            Ok(GffStrand::Forward) => Some(Strand::Forward),
            Ok(GffStrand::Reverse) => Some(Strand::Reverse),
            Ok(GffStrand::None | GffStrand::Unknown) => None,
            Err(_) => return Err("the strand is one of + - . ?".to_owned()),
        };
        let phase = match record.phase().transpose() {
            Ok(phase) => phase.map(|phase| match phase {
                Phase::Zero => 0,
                Phase::One => 1,
                Phase::Two => 2,
            }),
            Err(_) => return Err("the phase is one of 0 1 2 .".to_owned()),
        };
        Ok(Self {
            contig: ContigName::from(record.reference_sequence_name().to_string()),
            interval,
            strand,
            kind: record.ty().to_string(),
            phase,
            attributes: Attributes::from_record(record)?,
            line,
        })
    }
}

/// The last column: tags with one or more values, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(String, Vec<String>)>);

impl Attributes {
    /// The first value of `tag`.
    pub fn get(&self, tag: &str) -> Option<&str> {
        self.values(tag).first().map(String::as_str)
    }

    /// All values of `tag`; none when there is no such tag.
    pub fn values(&self, tag: &str) -> &[String] {
        let mut all = self.0.iter();
        let found = all.find(|(known, _)| known == tag);
        found.map_or(&[], |(_, values)| values)
    }

    /// Tags and their values, in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0
            .iter()
            .map(|(tag, values)| (tag.as_str(), values.as_slice()))
    }

    fn from_record(record: &gff::Record<'_>) -> Result<Self, String> {
        let attributes = record.attributes();
        let parsed = attributes.iter().map(|field| {
            let (tag, value) = field.map_err(|_| {
                "the last column holds tag=value pairs with semicolons between them (a GTF file?)"
                    .to_owned()
            })?;
            let values = match value {
                Value::String(value) => vec![value.to_string()],
                Value::Array(values) => values.iter().map(|value| value.to_string()).collect(),
            };
            Ok((tag.to_string().trim_start().to_owned(), values))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}
