//! What an ALT is, and whether REF agrees with the genome.

use cistron_genome::fasta::Contig;

use crate::status::Status;

/// A pair of alleles that can be scored: both of A, C, G and T, and REF as in the genome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alleles {
    /// 0-based index in the contig of the first base of `reference`.
    pub position: u64,
    /// Upper-case REF; never empty.
    pub reference: Vec<u8>,
    /// Upper-case ALT; never empty.
    pub alternate: Vec<u8>,
}

/// REF of a record held against the genome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefCheck {
    /// REF is what the FASTA has there.
    Agrees,
    /// REF is not what the FASTA has there.
    Differs {
        /// Upper-case bases of the FASTA in the place of REF.
        fasta: Vec<u8>,
    },
    /// There was nothing to compare.
    Impossible(Status),
}

impl RefCheck {
    /// The status that this gives to every ALT of the record, if any.
    pub fn status(&self) -> Option<Status> {
        match self {
            RefCheck::Agrees => None,
            RefCheck::Differs { .. } => Some(Status::RefMismatch),
            RefCheck::Impossible(status) => Some(*status),
        }
    }
}

/// Compares REF with the contig at the 1-based position `pos`, case-insensitively.
///
/// An IUPAC code of the FASTA stands for its alphabetically first base, as a VCF must write
/// it (VCF 4.5, section 1.6.1.4); N stays N.
pub fn check_reference(contig: Option<&Contig>, pos: u64, reference: &[u8]) -> RefCheck {
    if !is_acgt(reference) {
        return RefCheck::Impossible(Status::NonAcgt);
    }
    let Some(contig) = contig else {
        return RefCheck::Impossible(Status::NoContig);
    };
    let start = pos.checked_sub(1).and_then(|i| usize::try_from(i).ok());
    let fasta = start
        .and_then(|start| Some(start..start.checked_add(reference.len())?))
        .and_then(|range| contig.bases.get(range));
    let Some(fasta) = fasta else {
        return RefCheck::Impossible(Status::OutOfRange);
    };
    let mut pairs = fasta.iter().zip(reference);
    if pairs.all(|(f, r)| first_base(*f).eq_ignore_ascii_case(r)) {
        RefCheck::Agrees
    } else {
        RefCheck::Differs {
            fasta: fasta.to_vec(),
        }
    }
}

/// Makes a scorable pair of one ALT and the REF of its record, whose 1-based position is
/// `pos` and whose REF was compared with the result `check`.
///
/// # Errors
/// Why the ALT cannot be scored; where several reasons hold, the first in the order of
/// [`Status::ALL`].
pub fn classify(
    pos: u64,
    reference: &[u8],
    alternate: &[u8],
    check: &RefCheck,
) -> Result<Alleles, Status> {
    match alternate {
        b"." => return Err(Status::NoAlt),
        b"*" => return Err(Status::Star),
        // A breakend may name an assembly contig in angle brackets: `C[<ctg1>:7[`.
        _ if is_breakend(alternate) => return Err(Status::Breakend),
        [b'<', .., b'>'] => return Err(Status::Symbolic),
        _ if !is_acgt(alternate) => return Err(Status::NonAcgt),
        _ => (),
    }
    if let Some(status) = check.status() {
        return Err(status);
    }
    Ok(Alleles {
        position: pos.checked_sub(1).ok_or(Status::OutOfRange)?,
        reference: reference.to_ascii_uppercase(),
        alternate: alternate.to_ascii_uppercase(),
    })
}

/// Whether the allele is a breakend, paired or single (VCF 4.5, section 5.4).
fn is_breakend(allele: &[u8]) -> bool {
    let single = allele.len() > 1 && (allele[0] == b'.' || allele.ends_with(b"."));
    single || allele.iter().any(|byte| matches!(byte, b'[' | b']'))
}

/// Whether the allele is one or more of A, C, G and T in either case.
fn is_acgt(allele: &[u8]) -> bool {
    let plain = |byte: &u8| matches!(byte.to_ascii_uppercase(), b'A' | b'C' | b'G' | b'T');
    !allele.is_empty() && allele.iter().all(plain)
}

/// The alphabetically first base that an upper-case IUPAC code stands for; N and whatever is
/// no such code stay.
fn first_base(code: u8) -> u8 {
    match code {
        b'R' | b'W' | b'M' | b'D' | b'H' | b'V' => b'A',
        b'Y' | b'S' | b'B' => b'C',
        b'K' => b'G',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_genome::coord::Topology;

    fn contig(bases: &str) -> Contig {
        Contig {
            name: "c".into(),
            description: String::new(),
            bases: bases.as_bytes().to_vec(),
            topology: Topology::Linear,
        }
    }

    fn alt(alternate: &str) -> Result<Alleles, Status> {
        classify(4, b"ac", alternate.as_bytes(), &RefCheck::Agrees)
    }

    #[test]
    fn base_alleles_come_out_in_upper_case() {
        let alleles = alt("gT").unwrap();
        assert_eq!(
            (alleles.position, alleles.reference.as_slice()),
            (3, &b"AC"[..])
        );
        assert_eq!(alleles.alternate, b"GT");
    }

    #[test]
    fn other_alts_say_what_they_are() {
        for (alternate, status) in [
            (".", Status::NoAlt),
            ("*", Status::Star),
            ("<DEL>", Status::Symbolic),
            ("<*>", Status::Symbolic),
            ("<NON_REF>", Status::Symbolic),
            ("<INS:ME:ALU>", Status::Symbolic),
            ("C[2:321682[", Status::Breakend),
            ("]13:123456]AGTNNNNNCAT", Status::Breakend),
            ("C[<ctg1>:7[", Status::Breakend),
            (".A", Status::Breakend),
            ("AC.", Status::Breakend),
            ("..", Status::Breakend),
            ("N", Status::NonAcgt),
            ("AR", Status::NonAcgt),
            ("U", Status::NonAcgt),
            ("-", Status::NonAcgt),
            ("", Status::NonAcgt),
            ("A*", Status::NonAcgt),
            ("<DEL", Status::NonAcgt),
        ] {
            assert_eq!(alt(alternate), Err(status), "{alternate}");
        }
    }

    #[test]
    fn what_the_alt_is_goes_before_where_it_is() {
        let check = RefCheck::Impossible(Status::NoContig);
        assert_eq!(classify(0, b"A", b"*", &check), Err(Status::Star));
        assert_eq!(classify(0, b"A", b"C", &check), Err(Status::NoContig));
        let check = RefCheck::Differs { fasta: vec![b'C'] };
        assert_eq!(classify(1, b"A", b"C", &check), Err(Status::RefMismatch));
    }

    #[test]
    fn references_are_compared_without_regard_to_case() {
        let contig = contig("ACGTN");
        let check =
            |pos, reference: &str| check_reference(Some(&contig), pos, reference.as_bytes());
        assert_eq!(check(1, "ACGT"), RefCheck::Agrees);
        assert_eq!(check(2, "cg"), RefCheck::Agrees);
        let fasta = b"GT".to_vec();
        assert_eq!(check(3, "ga"), RefCheck::Differs { fasta });
        let fasta = b"N".to_vec();
        assert_eq!(check(5, "A"), RefCheck::Differs { fasta });
        for odd in ["N", "R", "<X>", ".", "AN"] {
            assert_eq!(check(5, odd), RefCheck::Impossible(Status::NonAcgt));
        }
    }

    #[test]
    fn positions_off_the_contig_are_out_of_range() {
        let contig = contig("ACGT");
        let out = RefCheck::Impossible(Status::OutOfRange);
        assert_eq!(check_reference(Some(&contig), 4, b"T"), RefCheck::Agrees);
        for (pos, reference) in [
            (0, "A"),
            (5, "A"),
            (4, "TA"),
            (u64::MAX, "AA"),
            (1, "ACGTA"),
        ] {
            assert_eq!(
                check_reference(Some(&contig), pos, reference.as_bytes()),
                out
            );
        }
        let unknown = check_reference(None, 1, b"A");
        assert_eq!(unknown, RefCheck::Impossible(Status::NoContig));
    }

    #[test]
    fn an_ambiguous_reference_is_its_first_base() {
        let codes = contig("RYSWKMBDHV");
        assert_eq!(
            check_reference(Some(&codes), 1, b"ACCAGACAAA"),
            RefCheck::Agrees
        );
        let wrong = check_reference(Some(&codes), 1, b"G");
        assert_eq!(wrong.status(), Some(Status::RefMismatch));
    }
}
