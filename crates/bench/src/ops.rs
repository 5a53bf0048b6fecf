//! Single operators: time beside the bytes that must move at least.

use cistron_kernels::checkpoint::gradients;
use cistron_kernels::mamba3::Inputs;
use cistron_kernels::scan::Scan;
use cistron_kernels::{Layout, attention, conv, ema, linear, norm, rotary, ssm, swiglu};
use cistron_model::Precision;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use crate::ceiling::Ceiling;
use crate::error::BenchError;
use crate::timing::{Clock, Times};

/// Sizes of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OpShape {
    /// Sequences.
    pub batch: i64,
    /// Tokens of each.
    pub length: i64,
    /// Heads; their channels together are the width of everything without heads.
    pub heads: i64,
    /// Channels a head.
    pub head_dim: i64,
    /// State size.
    pub state: i64,
    /// Attention window; -1 for none.
    pub window: i64,
}

impl OpShape {
    fn tokens(&self) -> i64 {
        self.batch * self.length
    }

    fn width(&self) -> i64 {
        self.heads * self.head_dim
    }
}

/// How fast one operator was.
#[derive(Debug, Clone, Serialize)]
pub struct OpResult {
    /// Its name.
    pub op: String,
    /// Seconds forwards.
    pub forward: Times,
    /// Seconds forwards and backwards.
    pub both: Times,
    /// Bytes of the inputs and the output: what a forward pass moves at least.
    pub forward_floor_bytes: u64,
    /// The same for both passes: inputs are read twice, the output's gradient once, and a
    /// gradient of each input is written.
    pub both_floor_bytes: u64,
    /// The floor's time at the copy ceiling over the time taken, forwards.
    pub forward_of_ceiling: f64,
    /// The same for both passes.
    pub both_of_ceiling: f64,
    /// Operations a second forwards, for operators that are matrix products.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_flops_per_second: Option<f64>,
}

type Run = Box<dyn Fn(&[Tensor]) -> Tensor>;

/// An operator with inputs that require gradients.
struct Op {
    inputs: Vec<Tensor>,
    run: Run,
    flops: Option<f64>,
}

/// Makes inputs of the measurement's kind, or fp32 where the operator wants that.
struct Maker {
    shape: OpShape,
    kind: Kind,
    device: Device,
}

impl Maker {
    fn random(&self, shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (self.kind, self.device)).set_requires_grad(true)
    }

    fn float(&self, shape: &[i64]) -> Tensor {
        Tensor::rand(shape, (Kind::Float, self.device)).set_requires_grad(true)
    }

    fn layout(&self) -> std::sync::Arc<Layout> {
        Layout::new(
            &vec![self.shape.length; self.shape.batch as usize],
            self.device,
        )
    }
}

fn op(inputs: Vec<Tensor>, run: impl Fn(&[Tensor]) -> Tensor + 'static) -> Op {
    Op {
        inputs,
        run: Box::new(run),
        flops: None,
    }
}

type Make = fn(&Maker) -> Op;

/// Every operator that is measured.
const OPS: [(&str, Make); 12] = [
    ("linear", |m| {
        let (tokens, width) = (m.shape.tokens(), m.shape.width());
        let inputs = vec![m.random(&[tokens, width]), m.random(&[2 * width, width])];
        Op {
            flops: Some(4.0 * (tokens * width * width) as f64),
            ..op(inputs, |t| linear(&t[0], &t[1]))
        }
    }),
    ("rms-norm", |m| {
        let (tokens, width) = (m.shape.tokens(), m.shape.width());
        let (kind, x) = (m.kind, m.float(&[tokens, width]));
        op(vec![x, m.float(&[width])], move |t| {
            norm::rms_norm(&t[0], &t[1]).to_kind(kind)
        })
    }),
    ("gated-norm", |m| {
        let rows = [m.shape.tokens(), m.shape.width()];
        let inputs = vec![m.random(&rows), m.random(&rows), m.float(&rows[1..])];
        op(inputs, |t| norm::gated_rms_norm(&t[0], &t[1], &t[2]))
    }),
    ("conv", |m| {
        let channels = m.shape.width() + 2 * m.shape.state;
        let inputs = vec![
            m.random(&[m.shape.tokens(), channels]),
            m.float(&[channels, 1, 4]),
            m.float(&[channels]),
        ];
        let layout = m.layout();
        op(inputs, move |t| {
            conv::packed(&t[0], &t[1], &t[2], None, &layout)
        })
    }),
    ("swiglu", |m| {
        let inputs = vec![m.random(&[m.shape.tokens(), 2 * m.shape.width()])];
        op(inputs, |t| swiglu::swiglu(&t[0]))
    }),
    ("rotary", |m| {
        let OpShape {
            heads, head_dim, ..
        } = m.shape;
        let (layout, rotated) = (m.layout(), head_dim / 4 * 2);
        let inputs = vec![m.random(&[m.shape.tokens(), heads, head_dim])];
        op(inputs, move |t| {
            rotary::rotate(&t[0], layout.positions(), rotated)
        })
    }),
    ("attention", |m| {
        let rows = [m.shape.tokens(), m.shape.heads, m.shape.head_dim];
        let (layout, window) = (m.layout(), m.shape.window);
        let seen = match window {
            ..0 => (m.shape.length + 1) as f64 / 2.0,
            window => (window + 1).min(m.shape.length) as f64,
        };
        Op {
            flops: Some(4.0 * (m.shape.tokens() * m.shape.width()) as f64 * seen),
            ..op(
                vec![m.random(&rows), m.random(&rows), m.random(&rows)],
                move |t| attention::packed(&t[0], &t[1], &t[2], &layout, window),
            )
        }
    }),
    ("mamba2-scan", |m| {
        let OpShape {
            heads,
            head_dim,
            state,
            ..
        } = m.shape;
        let (layout, tokens) = (m.layout(), m.shape.tokens());
        let inputs = vec![
            m.random(&[tokens, heads, 1, head_dim]),
            m.random(&[tokens, 1, 1, state]),
            m.random(&[tokens, 1, 1, state]),
            m.float(&[tokens, heads]),
            m.float(&[heads]),
        ];
        op(inputs, move |t| {
            if !ssm::supported(&t[0], state, None) {
                return plain_mamba2(t, &layout);
            }
            let scan = ssm::Scan {
                x: &t[0],
                b: &t[1],
                c: &t[2],
                turn: None,
                log_decay: &-&t[3],
                weight: &t[3],
                gamma: &t[3],
                skip: Some(&t[4]),
                initial: None,
            };
            scan.run(&layout, false).0
        })
    }),
    ("mamba3-scan", |m| mamba3(m, 1)),
    ("mamba3-mimo-scan", |m| mamba3(m, 4)),
    ("scan-plain", |m| {
        let OpShape {
            batch,
            length,
            heads,
            head_dim,
            state,
            ..
        } = m.shape;
        let inputs = vec![
            m.random(&[batch, length, heads, head_dim]),
            m.random(&[batch, length, state]),
            m.random(&[batch, length, state]),
            m.float(&[batch, length, heads]),
        ];
        op(inputs, |t| {
            let float = |i: usize| t[i].to_kind(Kind::Float);
            let scan = Scan {
                log_decay: &-float(3),
                weight: &float(3),
                x: &float(0),
                b: &float(1),
                c: &float(2),
            };
            scan.run(None).0.to_kind(t[0].kind())
        })
    }),
    ("dechunk-average", |m| {
        let (tokens, width) = (m.shape.tokens(), m.shape.width());
        let layout = m.layout();
        let inputs = vec![m.random(&[tokens, width]), m.float(&[tokens])];
        op(inputs, move |t| {
            ema::smooth(&t[0], &t[1].clamp(1e-4, 0.9999), &layout, None).0
        })
    }),
];

/// The scan of Mamba-3 with its gates, as the model runs it; half of the channels turn.
fn mamba3(m: &Maker, rank: i64) -> Op {
    let OpShape {
        heads,
        head_dim,
        state,
        ..
    } = m.shape;
    let (layout, tokens) = (m.layout(), m.shape.tokens());
    let angles = state / 4;
    let mut inputs = vec![
        m.random(&[tokens, heads, head_dim]),
        m.random(&[tokens, rank, 1, state]),
        m.random(&[tokens, rank, 1, state]),
        m.float(&[heads, rank, state]),
        m.float(&[heads, rank, state]),
        m.float(&[tokens, angles]),
        m.float(&[tokens, heads]),
        m.float(&[tokens, heads]),
        m.float(&[heads]),
    ];
    if rank > 1 {
        inputs.push(m.float(&[heads, rank, head_dim]));
    }
    op(inputs, move |t| {
        let inputs = Inputs {
            x: &t[0],
            up: t.get(9),
            b: &t[1],
            c: &t[2],
            b_bias: &t[3],
            c_bias: &t[4],
            theta: &t[5],
            delta: &t[6],
            log_decay: &-&t[6],
            trap: &t[7],
            weights: None,
            skip: &t[8],
        };
        inputs.run(&layout, None, false).0.to_kind(t[0].kind())
    })
}

/// The scan with its skip by libtorch's operators, where there is no kernel for it.
fn plain_mamba2(t: &[Tensor], layout: &Layout) -> Tensor {
    let float = |i: usize| layout.pad(&t[i].to_kind(Kind::Float));
    let (x, delta) = (float(0).squeeze_dim(3), float(3));
    let scan = Scan {
        log_decay: &-&delta,
        weight: &delta,
        x: &x,
        b: &float(1).squeeze_dim(2).squeeze_dim(2),
        c: &float(2).squeeze_dim(2).squeeze_dim(2),
    };
    let y = scan.run(None).0 + x * t[4].unsqueeze(-1);
    layout.unpad(&y).unsqueeze(2).to_kind(t[0].kind())
}

/// Names of the operators.
pub fn names() -> Vec<&'static str> {
    OPS.iter().map(|(name, _)| *name).collect()
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

/// Measures the operators called `wanted`, all when it is empty; `tell` hears of each result.
///
/// # Errors
///
/// There is no operator of a name, or memory runs out.
pub fn ops(
    wanted: &[String],
    shape: OpShape,
    precision: Precision,
    ceiling: &Ceiling,
    clock: &Clock,
    tell: &mut dyn FnMut(&OpResult),
) -> Result<Vec<OpResult>, BenchError> {
    if let Some(unknown) = wanted.iter().find(|name| !names().contains(&name.as_str())) {
        let known = names().join(", ");
        return Err(BenchError::Setting(format!(
            "operator '{unknown}': expected one of {known}"
        )));
    }
    let maker = Maker {
        shape,
        kind: precision.kind(),
        device: clock.device,
    };
    let mut results = Vec::new();
    for (name, make) in OPS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let result = measure(name, &make(&maker), ceiling, clock)?;
        tell(&result);
        results.push(result);
    }
    Ok(results)
}

fn measure(name: &str, op: &Op, ceiling: &Ceiling, clock: &Clock) -> Result<OpResult, BenchError> {
    let forward = tch::no_grad(|| clock.time_short(|| drop((op.run)(&op.inputs))));
    let gradient = tch::no_grad(|| (op.run)(&op.inputs).randn_like());
    let mut problem = None;
    let both = clock.time_short(|| {
        let output = (op.run)(&op.inputs);
        if let Err(error) = gradients(&output, &gradient, &op.inputs) {
            problem.get_or_insert(error);
        }
    });
    if let Some(reason) = problem {
        let what = name.to_owned();
        return Err(BenchError::Torch { what, reason });
    }
    let inputs: u64 = op.inputs.iter().map(bytes).sum();
    let output = bytes(&gradient);
    let floors = [inputs + output, 3 * inputs + 2 * output];
    let part =
        |floor: u64, times: Times| floor as f64 / ceiling.copy_bytes_per_second / times.median;
    Ok(OpResult {
        op: name.to_owned(),
        forward,
        both,
        forward_floor_bytes: floors[0],
        both_floor_bytes: floors[1],
        forward_of_ceiling: part(floors[0], forward),
        both_of_ceiling: part(floors[1], both),
        forward_flops_per_second: op.flops.map(|flops| flops / forward.median),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_runs_in_both_precisions_and_moves_its_floor() {
        let shape = OpShape {
            batch: 2,
            length: 40,
            heads: 2,
            head_dim: 8,
            state: 4,
            window: -1,
        };
        let clock = Clock {
            device: Device::Cpu,
            repeat: 1,
            warmup: 0,
        };
        let ceiling = Ceiling {
            copy_bytes_per_second: 1e10,
            matrix_flops_per_second: 1e10,
        };
        for precision in [Precision::Fp32, Precision::Bf16] {
            let mut told = 0;
            let results = ops(&[], shape, precision, &ceiling, &clock, &mut |_| told += 1);
            let results = results.expect("measured");
            assert_eq!(results.len(), OPS.len());
            assert_eq!(told, OPS.len());
            assert!(results.iter().all(|r| r.both.least > 0.0));
            let norm = results.iter().find(|r| r.op == "swiglu").expect("there");
            let width = if precision == Precision::Fp32 { 4 } else { 2 };
            assert_eq!(norm.forward_floor_bytes, 80 * (32 + 16) * width);
            assert_eq!(norm.both_floor_bytes, 80 * (3 * 32 + 2 * 16) * width);
        }
        let error = ops(
            &["scam".into()],
            shape,
            Precision::Fp32,
            &ceiling,
            &clock,
            &mut |_| (),
        );
        assert!(
            error
                .expect_err("unknown")
                .to_string()
                .contains("scan-plain")
        );
    }
}
