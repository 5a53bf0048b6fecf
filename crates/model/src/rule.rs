//! Chunks by a fixed rule instead of the router: the controls of learned chunking.

use tch::{Kind, Tensor};

use crate::config::Chunking;

/// Where chunks start, whatever the tokens are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// At every N-th place of a sequence.
    Stride(f64),
    /// At places whose hash, 32 bits, is below this.
    Random(i64),
    /// Where tokens are marked.
    Marked,
}

impl Rule {
    /// The rule of a stage with one chunk in `ratio` tokens; none where chunks are learned.
    pub fn new(chunking: Chunking, stage: usize, ratio: Option<f64>) -> Option<Self> {
        let ratio = ratio?;
        match chunking {
            Chunking::Learned => None,
            Chunking::Stride => Some(Self::Stride(ratio)),
            Chunking::Codons if stage == 0 => Some(Self::Marked),
            Chunking::Codons => Some(Self::Stride(ratio)),
            Chunking::Random => Some(Self::Random((f64::from(u32::MAX) / ratio) as i64)),
        }
    }

    /// Whether a chunk starts at places i64 `[*]` of their sequences, counted from 0, with marks
    /// bool `[*]` where tokens have them: fp32 `[*]`, 1 or 0. The first place always starts one.
    pub fn starts(self, places: &Tensor, marks: Option<&Tensor>) -> Tensor {
        let starts = match self {
            Self::Stride(ratio) => {
                let chunk = |places: &Tensor| (places.to_kind(Kind::Double) / ratio).floor();
                chunk(places).gt_tensor(&chunk(&(places - 1i64)))
            }
            Self::Random(limit) => hash(places).lt(limit).logical_or(&places.eq(0)),
            Self::Marked => match marks {
                Some(marks) => marks.logical_or(&places.eq(0)),
                None => places.eq(0),
            },
        };
        starts.to_kind(Kind::Float)
    }
}

/// 32 well-mixed bits of each value (xor-shifts and odd factors, as in MurmurHash3's finaliser).
fn hash(values: &Tensor) -> Tensor {
    const BITS: i64 = (1 << 32) - 1;
    let fold =
        |x: &Tensor, shift: i64| x.bitwise_xor_tensor(&x.bitwise_right_shift_tensor_scalar(shift));
    // The factors have 31 bits: products of 32-bit values fit.
    let x = (values + 0x9E37i64).bitwise_and(BITS);
    let x = (fold(&x, 16) * 0x45D9_F3B3i64).bitwise_and(BITS);
    let x = (fold(&x, 13) * 0x2C1B_3C6Di64).bitwise_and(BITS);
    fold(&x, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(chunking: Chunking, ratio: f64, tokens: i64) -> Vec<f32> {
        let places = Tensor::arange(tokens, (Kind::Int64, tch::Device::Cpu));
        let rule = Rule::new(chunking, 0, Some(ratio)).expect("a rule");
        Vec::try_from(rule.starts(&places, None)).expect("fp32")
    }

    #[test]
    fn a_stride_of_three_starts_at_every_third_place() {
        assert_eq!(
            starts(Chunking::Stride, 3.0, 7),
            [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
        );
        let fractional: f32 = starts(Chunking::Stride, 2.5, 1000).iter().sum();
        assert_eq!(fractional, 400.0);
    }

    #[test]
    fn random_places_have_the_ratio_and_no_period() {
        let places = starts(Chunking::Random, 3.0, 60_000);
        assert_eq!(places[0], 1.0);
        let share: f32 = places.iter().sum::<f32>() / 60_000.0;
        assert!((share - 1.0 / 3.0).abs() < 0.01, "{share}");
        for period in 2..=6 {
            for phase in 0..period {
                let some: Vec<f32> = places.iter().skip(phase).step_by(period).copied().collect();
                let share = some.iter().sum::<f32>() / some.len() as f32;
                assert!(
                    (share - 1.0 / 3.0).abs() < 0.02,
                    "{period} {phase}: {share}"
                );
            }
        }
    }
}
