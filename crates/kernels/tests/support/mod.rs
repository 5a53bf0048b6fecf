//! Comparison of operators on CUDA with their definitions in fp64.

use cistron_kernels::runtime;
use tch::{Device, Kind, Tensor};

pub const CUDA: Device = Device::Cuda(0);
pub const HALF: Kind = Kind::BFloat16;
pub const SINGLE: Kind = Kind::Float;

pub fn no_device() -> bool {
    let none = runtime::cuda_devices() == 0 || !runtime::kernels_built();
    if none {
        eprintln!("no CUDA device or no kernels: nothing is checked");
    }
    none
}

/// Norm of the difference over the norm of what is expected.
pub fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    let fp64 = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
    let (got, expected) = (fp64(got), fp64(expected));
    let norm = expected.norm().double_value(&[]).max(1e-30);
    (got - expected).norm().double_value(&[]) / norm
}

pub fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Double, Device::Cpu))
}

/// An input of an operator, whose values are exact in the kind that the operator takes.
pub struct Leaf {
    values: Tensor,
    kind: Kind,
}

pub fn leaf(values: &Tensor, kind: Kind) -> Leaf {
    Leaf {
        values: values.to_kind(kind).detach(),
        kind,
    }
}

impl Leaf {
    fn on(&self, device: Device, kind: Kind) -> Tensor {
        let copy = self.values.to_device(device).to_kind(kind).copy();
        copy.set_requires_grad(true)
    }
}

/// Outputs, then gradients of their sum weighted at random, the same way in every run.
fn outcome(
    leaves: &[Tensor],
    weights: &[Tensor],
    run: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
) -> Vec<Tensor> {
    let outputs = run(leaves);
    let mut loss: Option<Tensor> = None;
    for (output, weight) in outputs.iter().zip(weights) {
        let kind = match output.kind() {
            Kind::Double => Kind::Double,
            _ => Kind::Float,
        };
        let weight = weight.to_device(output.device()).to_kind(kind);
        let part = (output.to_kind(kind) * weight).sum(kind);
        loss = Some(match loss {
            Some(loss) => loss + part.to_kind(kind),
            None => part,
        });
    }
    let wanted: Vec<&Tensor> = leaves.iter().collect();
    let mut all: Vec<Tensor> = outputs.iter().map(Tensor::detach).collect();
    let loss = loss.expect("an output");
    all.extend(Tensor::run_backward(&[loss], &wanted, false, false));
    all
}

/// What an operator is held to.
pub struct Limits {
    /// Error of the operator itself in fp32; infinite where it has no such form.
    pub single: f64,
    /// Error of outputs that are fp32, and of their gradients in fp32.
    pub fp32: f64,
    /// Error of what is rounded to bf16, or made from such.
    pub bf16: f64,
    /// How many times the error of the plain form an error may be.
    pub times: f64,
}

/// Results rounded to bf16, with room for sums of rounded values.
pub const ROUNDED: Limits = Limits {
    single: 1e-5,
    fp32: 2e-5,
    bf16: 1.5e-2,
    times: 2.0,
};

/// Holds `fused` to `plain`, which runs on the same values in fp64, and to its own bits in
/// a second run. Nothing may be much further off than `plain` is in the kinds of the inputs
/// on the GPU, unless it is within the limit of fp32. In fp32 on the GPU the operator is held
/// to fp64 alone.
pub fn check(
    name: &str,
    inputs: &[Leaf],
    limits: &Limits,
    plain: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
    fused: &dyn Fn(&[Tensor]) -> Vec<Tensor>,
) {
    let exact: Vec<Tensor> = inputs
        .iter()
        .map(|leaf| leaf.on(Device::Cpu, Kind::Double))
        .collect();
    let given = || -> Vec<Tensor> { inputs.iter().map(|leaf| leaf.on(CUDA, leaf.kind)).collect() };
    let shapes = tch::no_grad(|| plain(&exact));
    let weights: Vec<Tensor> = shapes
        .iter()
        .map(|output| random(&output.size()).to_kind(Kind::BFloat16))
        .collect();
    let expected = outcome(&exact, &weights, plain);
    let got = outcome(&given(), &weights, fused);
    let again = outcome(&given(), &weights, fused);
    let rounded = outcome(&given(), &weights, plain);
    let single = limits.single.is_finite().then(|| {
        let leaves: Vec<Tensor> = inputs.iter().map(|l| l.on(CUDA, Kind::Float)).collect();
        outcome(&leaves, &weights, fused)
    });
    let mut problems = Vec::new();
    for (i, expected) in expected.iter().enumerate() {
        let (error, theirs) = (distance(&got[i], expected), distance(&rounded[i], expected));
        let what = match i.checked_sub(shapes.len()) {
            None => format!("output {i}"),
            Some(input) => format!("gradient {input}"),
        };
        let limit = match got[i].kind() {
            Kind::BFloat16 => limits.bf16,
            _ => limits.bf16.max(limits.fp32),
        };
        let fp32 = single
            .as_ref()
            .map_or(0.0, |all| distance(&all[i], expected));
        eprintln!("{name}: {what}: {error:.2e}, plain {theirs:.2e}, in fp32 {fp32:.2e}");
        if fp32.is_nan() || fp32 >= limits.single {
            problems.push(format!("{what} is {fp32:e} away in fp32"));
        }
        let worse = error > limits.fp32 && error > limits.times * theirs;
        // NaN fails as well.
        if error.is_nan() || error >= limit || worse {
            problems.push(format!("{what} is {error:e} away, plain {theirs:e}"));
        }
        if got[i] != again[i] {
            problems.push(format!("{what} differs from run to run"));
        }
    }
    assert!(problems.is_empty(), "{name}: {problems:?}");
}
