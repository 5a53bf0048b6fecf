//! A corpus back into FASTA.

use std::io::{self, Write};

use super::{Corpus, CorpusContig};

/// Bases written at a time.
const PIECE: u64 = 1 << 16;

impl Corpus {
    /// Writes a genome as FASTA. Lines hold `line_width` bases, or with `None` as many as in
    /// the file it came from: then the output equals that file in upper case (with U as T
    /// and without blank lines or carriage returns) if all but the last line of each record
    /// were equally long.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    ///
    /// # Panics
    /// When there is no genome of this index.
    pub fn export_fasta(
        &self,
        genome: usize,
        line_width: Option<usize>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        for contig in 0..self.genomes()[genome].contigs.len() {
            write_contig(self.contig(genome, contig), line_width, out)?;
        }
        out.flush()
    }
}

fn write_contig(
    contig: CorpusContig<'_>,
    line_width: Option<usize>,
    out: &mut impl Write,
) -> io::Result<()> {
    let entry = contig.entry();
    let space = match entry.description.as_bytes() {
        [] | [b'\t', ..] => "",
        _ => " ",
    };
    writeln!(out, ">{}{space}{}", entry.name, entry.description)?;
    let width = line_width.unwrap_or(entry.line_width).max(1);
    let mut bases = Vec::new();
    let mut column = 0;
    for start in (0..contig.len()).step_by(PIECE as usize) {
        let end = contig.len().min(start + PIECE);
        contig
            .read(start..end, &mut bases)
            .map_err(io::Error::other)?;
        let mut rest = bases.as_slice();
        while !rest.is_empty() {
            if column == width {
                out.write_all(b"\n")?;
                column = 0;
            }
            let (line, after) = rest.split_at(rest.len().min(width - column));
            out.write_all(line)?;
            column += line.len();
            rest = after;
        }
    }
    if column > 0 {
        out.write_all(b"\n")?;
    }
    Ok(())
}
