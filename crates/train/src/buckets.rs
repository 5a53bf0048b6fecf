//! Gradients end to end in a few flat tensors, which ranks exchange as wholes.
//!
//! Parameters lie in the order in which the backward pass completes them, so that a bucket
//! can be on its way while the next one fills. With a sharded optimizer (ZeRO, Rajbhandari et
//! al. 2020, arXiv 1910.02054, stage 1) each rank owns an equal part of every bucket, and
//! takes the optimizer's step for the stretches of parameters that lie in it.

use std::collections::BTreeMap;

use cistron_model::Params;
use tch::{Device, Kind, Tensor};

use crate::workers::Gradients;

/// Values in a bucket, unless one parameter has more: 32 MB.
pub const CAPACITY: i64 = 8 << 20;
/// Parameters begin at multiples of this many values, which is what vector loads want.
const ALIGNMENT: i64 = 32;

/// Where a parameter's gradient lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Index of the bucket.
    pub bucket: usize,
    /// First value within the bucket.
    pub offset: i64,
    /// Its shape.
    pub shape: Vec<i64>,
}

impl Slot {
    fn count(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// A stretch of a parameter that lies within one rank's part of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The parameter.
    pub name: String,
    /// Its first value in the stretch, in the flattened parameter.
    pub start: i64,
    /// Number of values.
    pub count: i64,
    /// Index of the bucket.
    pub bucket: usize,
    /// First value within the bucket.
    pub offset: i64,
}

/// How the gradients of a model lie in buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One a parameter, in the order of the buckets.
    pub slots: Vec<Slot>,
    /// Values of each bucket; `world` divides each.
    pub sizes: Vec<i64>,
    world: i64,
}

impl Plan {
    /// Lays out parameters of these names and shapes, in their order, for `world` ranks.
    pub fn new(shapes: &[(String, Vec<i64>)], world: u64, capacity: i64) -> Self {
        let world = i64::try_from(world).unwrap_or(i64::MAX);
        let (mut slots, mut sizes, mut filled) = (Vec::new(), Vec::new(), 0i64);
        for (name, shape) in shapes {
            let count: i64 = shape.iter().product();
            if filled > 0 && filled + count > capacity {
                sizes.push(filled);
                filled = 0;
            }
            slots.push(Slot {
                name: name.clone(),
                bucket: sizes.len(),
                offset: filled,
                shape: shape.clone(),
            });
            filled += aligned(count, ALIGNMENT);
        }
        if filled > 0 {
            sizes.push(filled);
        }
        for size in &mut sizes {
            *size = aligned(*size, world * ALIGNMENT);
        }
        Self {
            slots,
            sizes,
            world,
        }
    }

    /// The stretches of parameters in the part of `rank`, each parameter at most once.
    pub fn stretches(&self, rank: u64) -> Vec<Stretch> {
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        let stretch = |slot: &Slot| {
            let share = self.sizes[slot.bucket] / self.world;
            let from = slot.offset.max(rank * share);
            let to = (slot.offset + slot.count()).min((rank + 1) * share);
            (from < to).then(|| Stretch {
                name: slot.name.clone(),
                start: from - slot.offset,
                count: to - from,
                bucket: slot.bucket,
                offset: from,
            })
        };
        self.slots.iter().filter_map(stretch).collect()
    }
}

fn aligned(count: i64, to: i64) -> i64 {
    (count + to - 1) / to * to
}

/// The buckets with their values: fp32.
#[derive(Debug)]
pub struct Buckets {
    /// How they are laid out.
    pub plan: Plan,
    /// The flat tensors.
    pub flat: Vec<Tensor>,
}

impl Buckets {
    /// Zeros on `device`.
    pub fn new(plan: Plan, device: Device) -> Self {
        let zeros = |size: &i64| Tensor::zeros([*size], (Kind::Float, device));
        Self {
            flat: plan.sizes.iter().map(zeros).collect(),
            plan,
        }
    }

    /// Handles on the same values, for another thread.
    pub fn shallow_clone(&self) -> Vec<Tensor> {
        self.flat.iter().map(Tensor::shallow_clone).collect()
    }

    /// Sets all values to zero.
    pub fn clear(&self) {
        for bucket in &self.flat {
            let _ = bucket.shallow_clone().zero_();
        }
    }

    /// The values of a slot, in the parameter's shape.
    pub fn view(&self, slot: &Slot) -> Tensor {
        let flat = self.flat[slot.bucket].narrow(0, slot.offset, slot.count());
        flat.view(slot.shape.as_slice())
    }

    /// The values of a stretch, flat.
    pub fn part(&self, stretch: &Stretch) -> Tensor {
        self.flat[stretch.bucket].narrow(0, stretch.offset, stretch.count)
    }

    /// All slots by the name of their parameter.
    pub fn views(&self) -> Gradients {
        let slots = self.plan.slots.iter();
        slots
            .map(|slot| (slot.name.clone(), self.view(slot)))
            .collect()
    }

    /// The stretches of `rank` by the name of their parameter, flat.
    pub fn parts(&self, rank: u64) -> Gradients {
        let stretches = self.plan.stretches(rank);
        let part = |stretch: &Stretch| (stretch.name.clone(), self.part(stretch));
        stretches.iter().map(part).collect()
    }

    /// Copies what `rank` has of the parameters into its part.
    pub fn put(&self, params: &Params, rank: u64) {
        let stretches = self.plan.stretches(rank);
        let pairs = stretches.iter().filter_map(|stretch| {
            let param = params.get(&stretch.name)?;
            let own = flat(&param.tensor).narrow(0, stretch.start, stretch.count);
            Some((self.part(stretch), own))
        });
        copy(pairs.collect());
    }

    /// Copies all values into the parameters.
    pub fn take(&self, params: &Params) {
        let pairs = self.plan.slots.iter().filter_map(|slot| {
            let param = params.get(&slot.name)?;
            Some((param.tensor.detach(), self.view(slot)))
        });
        copy(pairs.collect());
    }
}

/// A tensor's values as one row, the same memory.
pub fn flat(tensor: &Tensor) -> Tensor {
    tensor.detach().view([-1])
}

/// Copies the second of each pair into the first.
fn copy(pairs: Vec<(Tensor, Tensor)>) {
    let (to, from): (Vec<Tensor>, Vec<Tensor>) = pairs.into_iter().unzip();
    cistron_kernels::optimizer::copy(&to, &from);
}

/// The shapes of all parameters, those in `first` before all others, in its order.
pub fn shapes(params: &Params, first: &[String]) -> Vec<(String, Vec<i64>)> {
    let mut rest: BTreeMap<&str, Vec<i64>> = params
        .iter()
        .map(|(name, param)| (name, param.tensor.size()))
        .collect();
    let mut all: Vec<(String, Vec<i64>)> = first
        .iter()
        .filter_map(|name| Some((name.clone(), rest.remove(name.as_str())?)))
        .collect();
    all.extend(
        rest.into_iter()
            .map(|(name, shape)| (name.to_owned(), shape)),
    );
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    proptest! {
        #[test]
        fn every_value_lies_in_one_place_and_has_one_owner(
            counts in proptest::collection::vec(1i64..5000, 1..20),
            world in 1u64..9,
            capacity in 1i64..9000,
        ) {
            let shapes: Vec<(String, Vec<i64>)> = counts
                .iter()
                .enumerate()
                .map(|(i, &count)| (format!("p{i}"), vec![count]))
                .collect();
            let plan = Plan::new(&shapes, world, capacity);
            for pair in plan.slots.windows(2) {
                let (a, b) = (&pair[0], &pair[1]);
                prop_assert!(
                    b.bucket == a.bucket + 1 && b.offset == 0
                        || b.bucket == a.bucket && b.offset >= a.offset + a.count()
                );
            }
            for slot in &plan.slots {
                prop_assert!(slot.offset + slot.count() <= plan.sizes[slot.bucket]);
                prop_assert!(plan.sizes[slot.bucket] % world as i64 == 0);
            }
            let mut owned: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
            for rank in 0..world {
                for stretch in plan.stretches(rank) {
                    owned.entry(stretch.name).or_default().push((stretch.start, stretch.count));
                }
            }
            for slot in &plan.slots {
                let mut next = 0;
                for &(start, count) in &owned[&slot.name] {
                    prop_assert_eq!(start, next);
                    next += count;
                }
                prop_assert_eq!(next, slot.count());
            }
        }
    }

    #[test]
    fn parameters_pass_through_their_parts() {
        let (model, other) = (testing::model(1), testing::model(2));
        let names = ["lm_head.weight".to_owned()];
        let plan = Plan::new(&shapes(model.params(), &names), 3, 1000);
        assert_eq!(plan.slots[0].name, names[0]);
        assert!(plan.sizes.len() > 3);
        let buckets = Buckets::new(plan, Device::Cpu);
        for rank in 0..3 {
            buckets.put(model.params(), rank);
        }
        buckets.take(other.params());
        for ((name, a), (_, b)) in model.params().iter().zip(other.params().iter()) {
            assert_eq!(a.tensor, b.tensor, "{name}");
        }
    }
}
