//! Tables of any bytes are read or refused: no panic, no endless loop.
//!
//! `CISTRON_FUZZ_CASES` sets the number of cases.

use cistron_tables::Table;
use proptest::prelude::*;

const TEXT: &str =
    "mutant,sequence,score\nA2G,MG,0.5\n\"A2V:M1L\",\"L,V\",NA\np.Ala2Ter,x,1e9\n,,\n";

/// A table with some bytes changed, dropped and put in; or bytes that never were one.
fn document() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b",\t\n\r\"'\\\0\xff\x1f\x8bA0.-e".to_vec()),
    ];
    let edit = (any::<prop::sample::Index>(), 0..4_u8, byte.clone());
    let edited = prop::collection::vec(edit, 1..8).prop_map(|edits| {
        let mut bytes = TEXT.as_bytes().to_vec();
        for (at, what, byte) in edits {
            let at = at.index(bytes.len().max(1));
            match what {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 if at < bytes.len() => bytes[at] = byte,
                _ => bytes.insert(at.min(bytes.len()), byte),
            }
        }
        bytes
    });
    prop_oneof![9 => edited, 1 => prop::collection::vec(byte, 0..200)]
}

fn config() -> ProptestConfig {
    let cases = std::env::var("CISTRON_FUZZ_CASES").ok();
    ProptestConfig {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(500),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes(bytes in document(), ending in prop::sample::select(vec!["csv", "tsv", "csv.gz", "parquet"])) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(format!("t.{ending}"));
        std::fs::write(&path, &bytes).expect("a file");
        if let Ok(table) = Table::read(&path) {
            for column in table.columns() {
                let text = table.text(&column).expect("a column that is listed");
                prop_assert_eq!(text.len(), table.rows());
                let _numbers = table.numbers(&column);
            }
        }
    }
}
