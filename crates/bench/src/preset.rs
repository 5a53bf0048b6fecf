//! Models to measure, by name.

use std::path::Path;

use cistron_model::Config;

use crate::error::BenchError;

/// Names of the presets.
pub const NAMES: [&str; 4] = ["tiny", "54m", "215m", "206m-transformer"];

const TWO_STAGES: &str = r#"["m4", ["T1m4", ["T12"], "m4T1"], "m4"]"#;

/// A preset: `tiny` for tests; `54m` and `215m`, two-stage models of 54.5 and 215 million
/// parameters; `206m-transformer`, 16 layers of width 1024 without stages.
///
/// # Errors
///
/// There is no preset of that name.
pub fn preset(name: &str) -> Result<Config, BenchError> {
    let (layout, widths, ffn, heads, windows, ratio) = match name {
        "tiny" => (
            r#"["m1", ["T1m1", ["T1"], "m1T1"], "m1"]"#,
            [64, 64, 128].as_slice(),
            [0, 128, 256].as_slice(),
            [1, 1, 2].as_slice(),
            "[1023, 1023, -1]",
            "[3, 2]",
        ),
        "54m" => (
            TWO_STAGES,
            [256, 384, 512].as_slice(),
            [0, 1024, 1408].as_slice(),
            [4, 6, 8].as_slice(),
            "[1023, 1023, -1]",
            "[3, 2]",
        ),
        "215m" => (
            TWO_STAGES,
            [512, 768, 1024].as_slice(),
            [0, 2048, 2816].as_slice(),
            [8, 12, 16].as_slice(),
            "[1023, 1023, -1]",
            "[3, 2]",
        ),
        "206m-transformer" => (
            r#"["T16"]"#,
            [1024].as_slice(),
            [2816].as_slice(),
            [16].as_slice(),
            "[-1]",
            "[]",
        ),
        other => {
            let known = NAMES.join(", ");
            return Err(BenchError::Setting(format!(
                "--preset {other}: expected one of {known}"
            )));
        }
    };
    let text = format!(
        r#"{{"arch_layout": {layout}, "d_model": {widths:?}, "d_intermediate": {ffn:?},
            "vocab_size": 8, "attn_cfg": {{"num_heads": {heads:?}, "rotary_emb_dim": 32,
            "window_size": {windows}}}, "cistron": {{"ratio": {ratio}}}}}"#
    );
    Ok(Config::from_json(&text, Path::new(name))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_names() {
        for (name, millions) in [("54m", 54.5), ("215m", 215.0), ("206m-transformer", 206.0)] {
            let config = preset(name).expect(name);
            let count: i64 = cistron_model::params::specs(&config)
                .iter()
                .map(|spec| spec.shape.iter().product::<i64>())
                .sum();
            let found = count as f64 / 1e6;
            assert!(
                (found - millions).abs() < 0.01 * millions,
                "{name}: {found}"
            );
        }
        assert!(
            preset("53m")
                .expect_err("unknown")
                .to_string()
                .contains("206m-transformer")
        );
    }
}
