//! A VCF with known alleles on a genome, and the scores of one.

/// The lines of a VCF before its records, for one contig.
pub fn header(contig: &str, length: usize) -> String {
    format!(
        "##fileformat=VCFv4.3\n##contig=<ID={contig},length={length}>\n\
         ##INFO=<ID=DP,Number=1,Type=Integer,Description=\"Depth\">\n\
         ##INFO=<ID=DB,Number=0,Type=Flag,Description=\"Known\">\n\
         ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"Genotype\">\n\
         #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tone\n"
    )
}

/// Record lines at `count` sorted places of a contig: by turns an SNV, an insertion, a
/// deletion, and a record of two ALTs, with INFO and QUAL as a caller might write them.
pub fn records(contig: &str, bases: &[u8], count: usize) -> Vec<String> {
    let step = bases.len() / (count + 1);
    (1..=count)
        .map(|i| {
            // Uneven steps, so that the places differ in phase.
            let at = i * step + (i * i * 7) % (step / 2);
            let base = char::from(bases[at]);
            let three = String::from_utf8_lossy(&bases[at..at + 3]);
            let other = |base: char| if base == 'A' { 'G' } else { 'A' };
            let (reference, alternate) = match i % 4 {
                0 => (base.to_string(), other(base).to_string()),
                1 => (base.to_string(), format!("{base}TTG")),
                2 => (three.to_string(), base.to_string()),
                _ => (
                    three.to_string(),
                    format!("{base},{}{}", other(base), &three[1..]),
                ),
            };
            let info = ["DP=30", ".", "DB;DP=7"][i % 3];
            let position = at + 1;
            format!(
                "{contig}\t{position}\tv{i}\t{reference}\t{alternate}\t50.00\tPASS\t{info}\tGT\t1\n"
            )
        })
        .collect()
}

/// The record lines of a VCF, with their line breaks.
///
/// # Panics
///
/// It is not text.
pub fn record_lines(vcf: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(vcf).expect("the VCF is text");
    let records = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with('#'));
    records.map(str::to_owned).collect()
}

/// The values of an INFO key in each record; none for a record without the key.
pub fn values(vcf: &[u8], key: &str) -> Vec<Vec<String>> {
    let find = |line: &String| {
        let info = line.trim_end().split('\t').nth(7)?.to_owned();
        let fields = info.split(';').find_map(|field| {
            field
                .strip_prefix(key)?
                .strip_prefix('=')
                .map(str::to_owned)
        })?;
        Some(fields.split(',').map(str::to_owned).collect())
    };
    record_lines(vcf)
        .iter()
        .map(|line| find(line).unwrap_or_default())
        .collect()
}
