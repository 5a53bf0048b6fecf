//! bedGraph and BED files as values a base.

use std::path::Path;

use crate::fixture::gunzip;

/// The fields of every line of a gzipped table.
///
/// # Panics
///
/// The file cannot be read, or is not text.
pub fn lines(path: &Path) -> Vec<Vec<String>> {
    let bytes = gunzip(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8(bytes).expect("the table is text");
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().map(fields).collect()
}

/// The value of each base of `contig` in a gzipped bedGraph.
///
/// # Panics
///
/// The lines of the contig overlap, leave a base out, or do not end with it.
pub fn values(path: &Path, contig: &str, length: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(length);
    for line in lines(path).iter().filter(|line| line[0] == contig) {
        let number = |i: usize| line[i].parse::<usize>().expect("a coordinate");
        assert_eq!(number(1), values.len(), "{}: {line:?}", path.display());
        values.resize(number(2), line[3].parse().expect("a value"));
    }
    assert_eq!(values.len(), length, "{}: {contig}", path.display());
    values
}

/// Start and end of each chunk of `contig` in a gzipped BED, in order.
///
/// # Panics
///
/// A line has no coordinates.
pub fn chunks(path: &Path, contig: &str) -> Vec<(usize, usize)> {
    let number = |text: &String| text.parse().expect("a coordinate");
    lines(path)
        .iter()
        .filter(|line| line[0] == contig)
        .map(|line| (number(&line[1]), number(&line[2])))
        .collect()
}
