//! AdamW (Loshchilov and Hutter 2019) with the groups of a head's parameters.

use cistron_model::lyra::Group;
use tch::{Kind, Tensor};

const BETAS: [f64; 2] = [0.9, 0.999];
const EPS: f64 = 1e-8;

/// The optimizer with its state.
#[derive(Debug)]
pub struct AdamW {
    members: Vec<Member>,
    decay: f64,
    steps: i32,
}

#[derive(Debug)]
struct Member {
    value: Tensor,
    first: Tensor,
    second: Tensor,
    /// Times the rate of a step.
    part: f64,
    decays: bool,
}

impl AdamW {
    /// No step taken. Step sizes and poles of state spaces learn at `ssm` times the rate; weights
    /// alone decay.
    pub fn new(params: Vec<(Tensor, Group)>, decay: f64, ssm: f64) -> Self {
        let member = |(value, group): (Tensor, Group)| Member {
            first: Tensor::zeros(value.size(), (Kind::Float, value.device())),
            second: Tensor::zeros(value.size(), (Kind::Float, value.device())),
            part: if group == Group::Ssm { ssm } else { 1.0 },
            decays: group == Group::Weight,
            value,
        };
        Self {
            members: params.into_iter().map(member).collect(),
            decay,
            steps: 0,
        }
    }

    /// Takes one step with these gradients, scaled so that their common norm is at most `clip`.
    pub fn step(&mut self, gradients: &[Tensor], rate: f64, clip: f64) {
        self.steps += 1;
        let corrections = BETAS.map(|beta| 1.0 - beta.powi(self.steps));
        tch::no_grad(|| {
            let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
            let norm = Tensor::stack(&norms, 0).norm();
            let scale = (clip / (norm + 1e-12)).clamp_max(1.0);
            for (member, gradient) in self.members.iter_mut().zip(gradients) {
                let gradient = gradient * &scale;
                let rate = rate * member.part;
                if member.decays {
                    let _ = member.value.g_mul_scalar_(1.0 - rate * self.decay);
                }
                let _ = member.first.lerp_(&gradient, 1.0 - BETAS[0]);
                let _ = member.second.lerp_(&gradient.square(), 1.0 - BETAS[1]);
                let divisor = member.second.sqrt() / corrections[1].sqrt() + EPS;
                let update = &member.first / divisor * (rate / corrections[0]);
                let _ = member.value.g_sub_(&update);
            }
        });
    }
}
