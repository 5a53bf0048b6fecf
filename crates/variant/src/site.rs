//! A record placed on the genome.

use cistron_genome::fasta::{Contig, Genome};

use crate::aliases::ContigAliases;
use crate::allele::{Alleles, RefCheck, check_reference, classify};
use crate::status::Status;
use crate::vcf::Record;

/// Where a record lies and which of its ALTs can be scored.
#[derive(Clone, Debug)]
pub struct Site<'g> {
    /// The genome.
    pub genome: &'g Genome,
    /// The contig that CHROM names, directly or by an alias.
    pub contig: Option<&'g Contig>,
    /// REF held against the contig.
    pub reference: RefCheck,
    /// One item per item of ALT, in the order of the record: alleles to score, or why not.
    pub alleles: Vec<Result<Alleles, Status>>,
}

impl<'g> Site<'g> {
    /// Places a record. Alleles that pass are scored through
    /// [`windows`](crate::windows::windows), which may still find them too long.
    pub fn locate(record: &Record, genome: &'g Genome, aliases: &ContigAliases) -> Self {
        let contig = aliases.resolve(record.chrom(), genome);
        let reference = check_reference(contig, record.pos(), record.ref_());
        let alleles = record
            .alts()
            .map(|alt| classify(record.pos(), record.ref_(), alt, &reference))
            .collect();
        Self {
            genome,
            contig,
            reference,
            alleles,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(line: &str) -> Vec<Status> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g.fna");
        std::fs::write(&path, ">c\nacgtRN\n>empty\n").unwrap();
        let genome = Genome::read(&path).unwrap();
        let record = Record::parse(line.as_bytes().to_vec(), 3, 8).unwrap();
        let site = Site::locate(&record, &genome, &ContigAliases::default());
        let status = |allele: Result<Alleles, Status>| allele.err().unwrap_or(Status::Ok);
        site.alleles.into_iter().map(status).collect()
    }

    #[test]
    fn every_alt_has_its_own_status() {
        use Status::*;
        let line = "c\t2\t.\tcg\tT,<DEL>,*,C[c:1[,CGN,ca,<*>\t.\t.\t.";
        let expected = [Ok, Symbolic, Star, Breakend, NonAcgt, Ok, Symbolic];
        assert_eq!(statuses(line), expected);
    }

    #[test]
    fn a_record_off_the_genome_has_one_reason_for_all() {
        use Status::*;
        assert_eq!(statuses("d\t2\t.\tC\tT,G\t.\t.\t."), [NoContig, NoContig]);
        assert_eq!(statuses("c\t0\t.\tC\tT,*\t.\t.\t."), [OutOfRange, Star]);
        assert_eq!(statuses("c\t7\t.\tC\tT\t.\t.\t."), [OutOfRange]);
        assert_eq!(statuses("empty\t1\t.\tC\tT\t.\t.\t."), [OutOfRange]);
        assert_eq!(statuses("c\t1\t.\tC\tT,.\t.\t.\t."), [RefMismatch, NoAlt]);
        assert_eq!(statuses("c\t5\t.\tA\tT\t.\t.\t."), [Ok]);
        assert_eq!(statuses("c\t6\t.\tN\tT\t.\t.\t."), [NonAcgt]);
        assert_eq!(statuses("c\t1\t.\tC\t.\t.\t.\t."), [NoAlt]);
    }
}
