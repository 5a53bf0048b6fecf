//! Floating-point operations of a forward pass (H-Net, appendix B, with the output
//! projection of Mamba counted at its true width and the router's three matrices added).

use cistron_model::arch::MixerKind;
use cistron_model::config::mamba3::Mamba3Shape;
use cistron_model::{Config, Routing};

/// Operations of a forward pass over one sequence of `length` tokens, when each routed
/// stage keeps one token in its target N (all of them without a target). A backward pass
/// takes twice as many.
pub fn forward(config: &Config, length: u64) -> f64 {
    let mut tokens = length as f64;
    let mut total = head(config, tokens);
    for stage in 0..config.stages() {
        total += in_stage(config, stage, tokens);
        tokens /= config.ratio(stage).unwrap_or(1.0);
    }
    total
}

/// Operations of a forward pass over sequences of these lengths, at the numbers of chunks that
/// the routers made of each.
pub fn measured(config: &Config, lengths: &[i64], routing: &[Routing]) -> f64 {
    let tokens = lengths.iter().sum::<i64>() as f64;
    let of = |stage: usize| match stage {
        0 => lengths,
        _ => routing[stage - 1].chunks.as_slice(),
    };
    let sum = |stage: usize| -> f64 {
        let costs = of(stage).iter().map(|n| in_stage(config, stage, *n as f64));
        costs.sum()
    };
    head(config, tokens) + (0..config.stages()).map(sum).sum::<f64>()
}

/// The product of the head; the embedding is a look-up.
fn head(config: &Config, tokens: f64) -> f64 {
    2.0 * tokens * config.vocab_size as f64 * config.d_model[0] as f64
}

/// All layers of a stage, and the matrices of its router, over one sequence.
fn in_stage(config: &Config, stage: usize, tokens: f64) -> f64 {
    let stages = config.arch_layout.stacks();
    let d = config.d_model[stage] as f64;
    let mut total = 0.0;
    for block in stages[stage].iter().flat_map(|stack| stack.blocks()) {
        total += match block.mixer {
            MixerKind::Mamba2 => mamba2(config, stage, tokens),
            MixerKind::Mamba3Siso => tokens * Mamba3Shape::of(config, stage, false).flops(),
            MixerKind::Mamba3Mimo => tokens * Mamba3Shape::of(config, stage, true).flops(),
            MixerKind::Attention => attention(config, stage, tokens),
        };
        if block.ffn {
            total += tokens * (6.0 * d * config.ffn_width(stage) as f64 + 5.0 * d);
        }
    }
    if stage + 1 < stages.len() {
        total += 6.0 * tokens * d * d;
    }
    total
}

fn mamba2(config: &Config, stage: usize, tokens: f64) -> f64 {
    let ssm = &config.ssm_cfg;
    let d = config.d_model[stage] as f64;
    let inner = d * ssm.expand.at(stage) as f64;
    let state = ssm.d_state.at(stage) as f64;
    let heads = inner / ssm.headdim.at(stage) as f64;
    let projections = 2.0 * d * (2.0 * inner + 2.0 * state + heads) + 2.0 * inner * d;
    let convolution = 2.0 * ssm.d_conv.at(stage) as f64 * (inner + 2.0 * state);
    tokens * (projections + convolution + 6.0 * inner * state + 5.0 * inner)
}

fn attention(config: &Config, stage: usize, tokens: f64) -> f64 {
    let d = config.d_model[stage] as f64;
    let heads = config.attn_cfg.num_heads.at(stage) as f64;
    let context = match config.attn_cfg.window_size.at(stage) {
        window if window >= 0 => tokens.min(window as f64 + 1.0),
        _ => tokens,
    };
    tokens * (6.0 * d * d + 4.0 * context * d + 3.0 * heads * context + 2.0 * d * d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Sequences are counted one by one: attention costs the square of each length.
    #[test]
    fn measured_chunks_are_what_is_counted() {
        let config = crate::testing::config();
        let model = crate::testing::model(2);
        let bases: Vec<i64> = (0..60).map(|i| (i * i + i / 3) % 4).collect();
        let lengths = [40, 20];
        let output = model.forward(&tch::Tensor::from_slice(&bases), &lengths);
        let chunks = &output.routing[0].chunks;
        let mut expected = head(&config, 60.0);
        for (length, chunks) in lengths.iter().zip(chunks) {
            expected += in_stage(&config, 0, *length as f64);
            expected += in_stage(&config, 1, *chunks as f64);
        }
        let found = measured(&config, &lengths, &output.routing);
        assert!((found - expected).abs() < 1e-6 * expected);
        let one = in_stage(&config, 1, 16.0);
        assert!(one > 2.0 * in_stage(&config, 1, 8.0));
        let mut even = config.clone();
        even.cistron.ratio = vec![4.0];
        let total = forward(&even, 64);
        let parts = head(&even, 64.0) + in_stage(&even, 0, 64.0) + in_stage(&even, 1, 16.0);
        assert!((total - parts).abs() < 1e-6 * total);
    }

    /// The published figures, 0.43 and 0.69 to 0.70 GFLOP a byte, are at the chunk lengths
    /// that the released models came to: 4.8, and 6.9 over both stages.
    #[test]
    fn the_released_configurations_cost_what_was_published() {
        let cost = |layout: &str, d: &str, f: &str, rotary: &str, ratio: &str| {
            let windows = if ratio.contains(',') {
                "[1023,1023,-1]"
            } else {
                "[1023,-1]"
            };
            let text = format!(
                r#"{{"arch_layout": {layout}, "d_model": {d}, "d_intermediate": {f},
                    "attn_cfg": {{"num_heads": 16, "rotary_emb_dim": {rotary}, "window_size": {windows}}},
                    "cistron": {{"ratio": {ratio}}}}}"#
            );
            let config = Config::from_json(&text, Path::new("config.json")).unwrap();
            forward(&config, 8192) / 8192.0 / 1e9
        };
        let one = cost(
            r#"["m4",["T22"],"m4"]"#,
            "[1024,1536]",
            "[0,4096]",
            "[32,48]",
            "[4.8]",
        );
        assert!((one - 0.43).abs() < 0.01, "{one}");
        let two = cost(
            r#"["m4",["T1m4",["T27"],"m4T1"],"m4"]"#,
            "[1024,1536,2048]",
            "[0,4096,5504]",
            "[32,48,64]",
            "[2.63,2.63]",
        );
        assert!((two - 0.70).abs() < 0.02, "{two}");
    }

    /// 6 d² parameters a layer make 12 d² operations; the scan comes to it, by rank.
    #[test]
    fn mamba3_costs_its_products_and_its_scan() {
        let cost = |layout: &str| {
            let text = format!(
                r#"{{"arch_layout": ["{layout}"], "d_model": [2048], "d_intermediate": [0],
                    "vocab_size": 8}}"#
            );
            let config = Config::from_json(&text, Path::new("config.json")).unwrap();
            forward(&config, 1) - 2.0 * 8.0 * 2048.0
        };
        let (siso, mimo) = (cost("b1"), cost("r1"));
        // 52.3 MFLOP of products and 4 N P (+ 2 N P of decay) a head.
        assert!((siso / 1e6 - (52.3 + 3.15)).abs() < 0.2, "{siso}");
        assert!(mimo - siso > 12.0 * 64.0 * 64.0 * 128.0, "{mimo}");
        assert!(mimo < 1.25 * siso, "{mimo}");
    }
}
