//! Refusal of a wrong reference.

use crate::allele::RefCheck;
use crate::site::Site;
use crate::vcf::Record;

/// Number of records, from the first, on which the reference is judged.
const JUDGED: u64 = 1000;
/// With fewer records than this nothing is judged.
const FEWEST: u64 = 20;
/// More mismatches than this share, in percent, are too many.
const PERCENT: u64 = 5;
/// Number of mismatches, or of contigs, that a message shows.
const SHOWN: usize = 3;
/// Number of bases of an allele that a message shows.
const SHOWN_BASES: usize = 20;

/// What to do with a record whose REF differs from the FASTA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MismatchPolicy {
    /// Leave it unscored with the status `REF_MISMATCH`.
    #[default]
    Skip,
    /// Stop.
    Error,
}

/// The genome is not the one that the VCF was called against.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MismatchError {
    /// A REF differs, and the policy is [`MismatchPolicy::Error`].
    #[error(
        "{example} (line {line}); check --fasta, or keep such records unscored with \
         --ref-mismatch skip"
    )]
    Forbidden {
        /// Place, REF and FASTA.
        example: String,
        /// Number of the line, from 1.
        line: u64,
    },
    /// Too many REF alleles differ.
    #[error(
        "wrong reference? REF differs from the FASTA in {mismatches} of the first {compared} \
         records compared: {}; pass the genome that the variants were called against \
         with --fasta",
        .examples.join(", ")
    )]
    WrongReference {
        /// Number of records that differ.
        mismatches: u64,
        /// Number of records with an ALT whose REF could be compared.
        compared: u64,
        /// Place, REF and FASTA of the first few.
        examples: Vec<String>,
    },
    /// No record lies on a contig of the genome.
    #[error(
        "wrong reference? no record lies on a contig of the FASTA: the first is on {found:?}, \
         and the FASTA has {}. If names alone differ, give a table of both with \
         --contig-aliases; else pass the genome that the variants were called against with \
         --fasta", .known.join(", ")
    )]
    NoContig {
        /// CHROM of the first record.
        found: String,
        /// The first few contigs of the FASTA.
        known: Vec<String>,
    },
}

/// Counts the records whose REF differs from the FASTA, and stops when they are too many:
/// more than 5 % of the first 1,000 records, or of all when there are from 20 to 999.
///
/// Counted are records with an ALT whose REF could be compared.
#[derive(Clone, Debug, Default)]
pub struct MismatchGuard {
    policy: MismatchPolicy,
    compared: u64,
    mismatches: u64,
    examples: Vec<String>,
    /// What to say if no record should lie on a contig of the genome.
    lost: Option<MismatchError>,
    placed: bool,
}

impl MismatchGuard {
    /// A guard that has seen nothing.
    pub fn new(policy: MismatchPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Takes note of the next record in file order.
    ///
    /// # Errors
    /// At the first mismatch when the policy forbids them; else as soon as more than 5 % of
    /// the first 1,000 records are sure to differ.
    pub fn observe(&mut self, record: &Record, site: &Site<'_>) -> Result<(), MismatchError> {
        self.placed |= site.contig.is_some();
        if !self.placed && self.lost.is_none() {
            let contigs = site.genome.contigs.iter().take(SHOWN);
            self.lost = Some(MismatchError::NoContig {
                found: record.chrom().to_owned(),
                known: contigs.map(|contig| contig.name.to_string()).collect(),
            });
        }
        let fasta = match &site.reference {
            _ if !record.has_alt() => return Ok(()),
            RefCheck::Impossible(_) => return Ok(()),
            RefCheck::Agrees => None,
            RefCheck::Differs { fasta } => Some(fasta),
        };
        self.compared += 1;
        let Some(fasta) = fasta else {
            return Ok(());
        };
        self.mismatches += 1;
        let example = example(record, fasta);
        if self.policy == MismatchPolicy::Error {
            let line = record.line();
            return Err(MismatchError::Forbidden { example, line });
        }
        if self.examples.len() < SHOWN {
            self.examples.push(example);
        }
        if self.compared <= JUDGED && self.mismatches * 100 > JUDGED * PERCENT {
            return Err(self.wrong_reference());
        }
        Ok(())
    }

    /// Judges what was seen after the last record.
    ///
    /// # Errors
    /// When fewer than 1,000 but at least 20 records were compared and more than 5 % of them
    /// differ, or when there were records and none lay on a contig of the genome.
    pub fn finish(&self) -> Result<(), MismatchError> {
        if let (Some(error), false) = (&self.lost, self.placed) {
            return Err(error.clone());
        }
        let judged = (FEWEST..JUDGED).contains(&self.compared);
        if judged && self.mismatches * 100 > self.compared * PERCENT {
            return Err(self.wrong_reference());
        }
        Ok(())
    }

    /// Number of records so far whose REF differs.
    pub fn mismatches(&self) -> u64 {
        self.mismatches
    }

    /// Number of records so far with an ALT whose REF could be compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    fn wrong_reference(&self) -> MismatchError {
        MismatchError::WrongReference {
            mismatches: self.mismatches,
            compared: self.compared,
            examples: self.examples.clone(),
        }
    }
}

/// `chr:12 REF=A FASTA=C`.
fn example(record: &Record, fasta: &[u8]) -> String {
    let short = |bases: &[u8]| {
        let shown = &bases[..bases.len().min(SHOWN_BASES)];
        let more = if shown.len() < bases.len() { "..." } else { "" };
        format!("{}{more}", String::from_utf8_lossy(shown))
    };
    let (place, reference) = (record.place(), short(record.ref_()));
    format!("{place} REF={reference} FASTA={}", short(fasta))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aliases::ContigAliases;
    use cistron_genome::fasta::Genome;

    fn genome() -> Genome {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        std::fs::write(&path, ">c\nACGTACGTACGTACGTACGTACGTACGT\n").unwrap();
        Genome::read(&path).unwrap()
    }

    /// Shows the guard records with these CHROM, REF and ALT columns at position 1, an A.
    fn judge<'a>(
        policy: MismatchPolicy,
        records: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
    ) -> (u64, Result<(), MismatchError>) {
        let genome = genome();
        let mut guard = MismatchGuard::new(policy);
        for (i, (chrom, reference, alt)) in records.into_iter().enumerate() {
            let line = format!("{chrom}\t1\t.\t{reference}\t{alt}\t.\t.\t.");
            let record = Record::parse(line.into_bytes(), i as u64 + 3, 8).unwrap();
            let site = Site::locate(&record, &genome, &ContigAliases::default());
            if let Err(error) = guard.observe(&record, &site) {
                return (guard.compared(), Err(error));
            }
        }
        (guard.compared(), guard.finish())
    }

    const GOOD: (&str, &str, &str) = ("c", "A", "T");
    const BAD: (&str, &str, &str) = ("c", "G", "T");

    #[test]
    fn five_percent_are_borne() {
        let records = [[BAD; 50].as_slice(), &[GOOD; 950]].concat();
        let (compared, result) = judge(MismatchPolicy::Skip, records);
        assert_eq!((compared, result), (1000, Ok(())));
        let records = [[BAD; 1].as_slice(), &[GOOD; 19]].concat();
        assert_eq!(judge(MismatchPolicy::Skip, records).1, Ok(()));
    }

    #[test]
    fn more_are_refused_at_once() {
        let records = [[BAD; 51].as_slice(), &[GOOD; 2000]].concat();
        let (compared, result) = judge(MismatchPolicy::Skip, records);
        assert_eq!(compared, 51);
        let text = result.unwrap_err().to_string();
        assert!(text.starts_with("wrong reference?"), "{text}");
        assert!(text.contains("51 of the first 51"), "{text}");
        assert_eq!(text.matches("c:1 REF=G FASTA=A").count(), 3, "{text}");
        assert!(text.contains("--fasta"), "{text}");
    }

    #[test]
    fn later_records_are_not_judged() {
        let records = [[GOOD; 1000].as_slice(), &[BAD; 500]].concat();
        assert_eq!(judge(MismatchPolicy::Skip, records).1, Ok(()));
    }

    #[test]
    fn short_files_are_judged_at_their_end() {
        let records = [[BAD; 2].as_slice(), &[GOOD; 18]].concat();
        let result = judge(MismatchPolicy::Skip, records).1;
        assert!(matches!(
            result,
            Err(MismatchError::WrongReference {
                mismatches: 2,
                compared: 20,
                ..
            })
        ));
        assert_eq!(judge(MismatchPolicy::Skip, [BAD; 19]).1, Ok(()));
        assert_eq!(judge(MismatchPolicy::Skip, []).1, Ok(()));
    }

    #[test]
    fn records_that_cannot_be_compared_do_not_count() {
        let others = [("c", "G", "."), ("d", "G", "T"), ("c", "N", "T")];
        let records = others.iter().cycle().take(300).copied().chain([GOOD]);
        assert_eq!(judge(MismatchPolicy::Skip, records), (1, Ok(())));
    }

    #[test]
    fn the_strict_policy_stops_at_the_first() {
        let text = judge(MismatchPolicy::Error, [GOOD, BAD])
            .1
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("c:1 REF=G FASTA=A (line 4)"), "{text}");
        assert!(text.contains("--ref-mismatch skip"), "{text}");
        let long = ("c", "AAAAACGTACGTACGTACGTACGT", "T");
        let text = judge(MismatchPolicy::Error, [long])
            .1
            .unwrap_err()
            .to_string();
        assert!(text.contains("REF=AAAAACGTACGTACGTACGT... FASTA=ACGTACGTACGTACGTACGT... "));
    }

    #[test]
    fn a_vcf_of_other_contigs_is_refused() {
        let text = judge(MismatchPolicy::Skip, [("d", "A", "T")])
            .1
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("on \"d\", and the FASTA has c. ") && text.contains("--contig-aliases"),
            "{text}"
        );
        assert_eq!(
            judge(MismatchPolicy::Skip, [("d", "A", "T"), GOOD]).1,
            Ok(())
        );
    }
}
