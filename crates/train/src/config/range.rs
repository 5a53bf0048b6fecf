//! Values that have the right type and make no sense.

use cistron_model::Checkpointing;
use cistron_model::arch::MixerKind;

use super::{Method, OptimizerKind, RunConfig};

/// The first key whose value is out of range, and what was expected instead.
pub fn problem(config: &RunConfig) -> Option<(&'static str, String)> {
    let (data, optimizer) = (&config.data, &config.optimizer);
    let (schedule, train) = (&config.schedule, &config.train);
    let long = &config.long_range;
    let layout = config.model.arch_layout.stacks();
    let blocks = layout.iter().flatten().flat_map(|stack| stack.blocks());
    let recurrent = blocks
        .into_iter()
        .any(|block| block.mixer != MixerKind::Attention);
    let method = format!("{:?}", long.method);
    let stages = config.model.stages();
    let finite = |x: f64| x >= 0.0 && x.is_finite();
    let below_one = |x: &f64| (0.0..1.0).contains(x);
    let within = format!("at most schedule.steps = {}", schedule.steps);
    let betas = format!("{:?}", optimizer.betas);
    let check = |good: bool, key, found: &dyn std::fmt::Display, expected: &str| {
        (!good).then(|| (key, format!("{found}: expected {expected}")))
    };
    let (length, longest) = (data.length, u64::from(u32::MAX));
    let (one, zero) = ("1 or more", "0 or more");
    [
        check(
            (2..=longest).contains(&length),
            "data.length",
            &length,
            "2 or more, within memory",
        ),
        check(data.batch > 0, "data.batch", &data.batch, one),
        check(finite(optimizer.lr), "optimizer.lr", &optimizer.lr, zero),
        check(
            optimizer.betas.iter().all(below_one),
            "optimizer.betas",
            &betas,
            "two numbers from 0 to below 1",
        ),
        check(
            finite(optimizer.eps) && optimizer.eps > 0.0,
            "optimizer.eps",
            &optimizer.eps,
            "more than 0",
        ),
        check(
            finite(optimizer.weight_decay),
            "optimizer.weight_decay",
            &optimizer.weight_decay,
            zero,
        ),
        check(
            finite(optimizer.clip),
            "optimizer.clip",
            &optimizer.clip,
            zero,
        ),
        check(
            optimizer.explosion == 0.0
                || (optimizer.explosion > 1.0 && optimizer.explosion.is_finite()),
            "optimizer.explosion",
            &optimizer.explosion,
            "more than 1, or 0 for never",
        ),
        check(schedule.steps > 0, "schedule.steps", &schedule.steps, one),
        check(
            schedule.warmup_steps <= schedule.steps,
            "schedule.warmup_steps",
            &schedule.warmup_steps,
            &within,
        ),
        check(
            schedule.decay_steps <= schedule.steps,
            "schedule.decay_steps",
            &schedule.decay_steps,
            &within,
        ),
        check(
            (0.0..=1.0).contains(&schedule.min_lr_ratio),
            "schedule.min_lr_ratio",
            &schedule.min_lr_ratio,
            "a number from 0 to 1",
        ),
        check(
            finite(schedule.max_minutes),
            "schedule.max_minutes",
            &schedule.max_minutes,
            zero,
        ),
        check(
            !(train.zero && optimizer.kind == OptimizerKind::Muon),
            "train.zero",
            &train.zero,
            "false with optimizer.kind = \"muon\", whose steps need whole matrices",
        ),
        check(
            train.accumulate > 0,
            "train.accumulate",
            &train.accumulate,
            one,
        ),
        check(
            below_one(&train.ema_decay),
            "train.ema_decay",
            &train.ema_decay,
            "a number from 0 to below 1",
        ),
        check(
            train.log_every > 0,
            "train.log_every",
            &train.log_every,
            one,
        ),
        check(
            train.eval_tokens > 0,
            "train.eval_tokens",
            &train.eval_tokens,
            one,
        ),
        check(
            match &train.checkpointing {
                Checkpointing::Stages(list) => list.iter().all(|stage| *stage < stages),
                Checkpointing::Every(_) => true,
            },
            "train.checkpointing",
            &format!("{:?}", train.checkpointing),
            &format!("stages from 0 to {}", stages - 1),
        ),
        check(
            train.keep_last > 0,
            "train.keep_last",
            &train.keep_last,
            one,
        ),
        check(
            recurrent || matches!(long.method, Method::None | Method::Tbptt),
            "long_range.method",
            &method,
            "\"none\" or \"tbptt\" in a model without recurrent mixers",
        ),
        check(
            (0.0..=1.0).contains(&long.from_nothing),
            "long_range.from_nothing",
            &long.from_nothing,
            "a number from 0 to 1",
        ),
        check(finite(long.noise), "long_range.noise", &long.noise, zero),
        check(long.windows > 0, "long_range.windows", &long.windows, one),
    ]
    .into_iter()
    .flatten()
    .next()
}

#[cfg(test)]
mod tests {
    use crate::config::RunConfig;
    use crate::testing::TINY;
    use std::path::Path;

    #[test]
    fn nonsense_is_refused_by_key() {
        for set in [
            "data.length=1",
            "data.batch=0",
            "optimizer.lr=-1",
            "optimizer.lr=inf",
            "optimizer.betas=[0.9, 1.0]",
            "optimizer.eps=0",
            "optimizer.clip=nan",
            "optimizer.explosion=0.5",
            "schedule.steps=0",
            "schedule.decay_steps=9",
            "schedule.min_lr_ratio=1.5",
            "train.accumulate=0",
            "train.ema_decay=1",
            "train.keep_last=0",
            "train.checkpointing=[0, 2]",
            "long_range.from_nothing=1.5",
            "long_range.windows=0",
        ] {
            let error = RunConfig::parse(TINY, Path::new("tiny.toml"), &[set.to_owned()])
                .expect_err(set)
                .to_string();
            let key = set.split('=').next().expect("a key");
            assert!(error.contains(&format!(": {key}: ")), "{error}");
        }
    }
}
