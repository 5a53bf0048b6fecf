//! The one batch shape inside the models: sequences packed end to end.

use std::sync::{Arc, Mutex, OnceLock};

use tch::{Device, Kind, Tensor};

use crate::ssm::Plan;
use crate::upload;

/// Where each sequence of a packed batch lies.
///
/// Lengths are known to the host, so no operator has to ask the device for them.
/// Sequences may be empty.
#[derive(Debug)]
pub struct Layout {
    lengths: Vec<i64>,
    offsets: Vec<i64>,
    max: i64,
    device: Device,
    cumulative: OnceLock<Tensor>,
    slots: OnceLock<Tensor>,
    positions: OnceLock<Tensor>,
    valid: OnceLock<Tensor>,
    starts: OnceLock<Tensor>,
    plans: Mutex<Plans>,
}

/// Plans of scans by their heads and ranks.
type Plans = Vec<((i64, i64), Arc<Plan>)>;

// SAFETY: the index tensors are made once, under the locks, and only read from then on;
// libtorch allows any number of readers. The recomputation of a layer in the backward
// pass reads a layout from a thread of the autograd engine.
#[allow(unsafe_code)]
unsafe impl Sync for Layout {}

impl Layout {
    /// A layout of sequences with these lengths, whose index tensors live on `device`.
    pub fn new(lengths: &[i64], device: Device) -> Arc<Self> {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        let mut total = 0;
        offsets.push(0);
        for length in lengths {
            assert!(
                *length >= 0,
                "a sequence length is never negative: {length}"
            );
            total += length;
            offsets.push(total);
        }
        Arc::new(Self {
            max: lengths.iter().copied().max().unwrap_or(0),
            lengths: lengths.to_vec(),
            offsets,
            device,
            cumulative: OnceLock::new(),
            slots: OnceLock::new(),
            positions: OnceLock::new(),
            valid: OnceLock::new(),
            starts: OnceLock::new(),
            plans: Mutex::default(),
        })
    }

    /// Length of each sequence, in tokens.
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Start of each sequence in the packed tensor, and the total at the end
    /// (`cu_seqlens` elsewhere): `sequences + 1` entries.
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// [`Layout::offsets`] on the device: i64 `[sequences + 1]`.
    pub fn starts(&self) -> &Tensor {
        self.starts
            .get_or_init(|| upload(&self.offsets, self.device))
    }

    /// How a scan with this many heads and ranks is cut up, made once.
    pub(crate) fn scan_plan(&self, heads: i64, rank: i64) -> Arc<Plan> {
        let mut plans = self.plans.lock().expect("no scan plan panics halfway");
        if let Some((_, plan)) = plans.iter().find(|(key, _)| *key == (heads, rank)) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(Plan::new(self, heads, rank));
        plans.push(((heads, rank), Arc::clone(&plan)));
        plan
    }

    /// Number of sequences.
    pub fn sequences(&self) -> i64 {
        self.lengths.len() as i64
    }

    /// Tokens of all sequences together.
    pub fn total(&self) -> i64 {
        self.offsets[self.lengths.len()]
    }

    /// Length of the longest sequence.
    pub fn max(&self) -> i64 {
        self.max
    }

    /// The device of the index tensors.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Whether all sequences are equally long, so that padding is a view.
    pub fn is_uniform(&self) -> bool {
        self.lengths.iter().all(|&length| length == self.max)
    }

    /// The offsets on the device: i32 `[sequences + 1]`, the `cu_seqlens` of kernels.
    pub fn cumulative(&self) -> &Tensor {
        self.cumulative
            .get_or_init(|| upload(&self.offsets, self.device).to_kind(Kind::Int))
    }

    /// Each token's number plus the value of its sequence: i64 `[tokens]`. Only the values
    /// travel to the device, and nothing comes back.
    fn spread(&self, values: &[i64]) -> Tensor {
        let here = |list: &[i64]| upload(list, self.device);
        let numbers = Tensor::arange(self.total(), (Kind::Int64, self.device));
        if self.lengths.len() == 1 {
            return numbers + values[0];
        }
        let lengths = here(&self.lengths);
        numbers + here(values).repeat_interleave_self_tensor(&lengths, 0, self.total())
    }

    /// Row of each token in the padded batch flattened to `[sequences * max, …]`: i64 `[tokens]`.
    fn slots(&self) -> &Tensor {
        self.slots.get_or_init(|| {
            // A token moves by the padding of the rows before its own.
            let shifts: Vec<i64> = (0..)
                .zip(&self.offsets)
                .take(self.lengths.len())
                .map(|(row, offset)| row * self.max - offset)
                .collect();
            self.spread(&shifts)
        })
    }

    /// Position of each token within its sequence: i64 `[tokens]`.
    pub fn positions(&self) -> &Tensor {
        self.positions.get_or_init(|| {
            let starts: Vec<i64> = self.offsets.iter().map(|offset| -offset).collect();
            self.spread(&starts[..self.lengths.len()])
        })
    }

    /// Sequence of each token: i64 `[tokens]`.
    pub fn rows(&self) -> Tensor {
        let here = |list: &[i64]| upload(list, self.device);
        let rows: Vec<i64> = (0..self.sequences()).collect();
        here(&rows).repeat_interleave_self_tensor(&here(&self.lengths), 0, self.total())
    }

    /// Which slots of the padded batch hold a token: bool `[sequences, max]`.
    pub fn valid(&self) -> &Tensor {
        self.valid.get_or_init(|| {
            let lengths = upload(&self.lengths, self.device);
            let steps = Tensor::arange(self.max, (Kind::Int64, self.device));
            steps.unsqueeze(0).lt_tensor(&lengths.unsqueeze(1))
        })
    }

    /// `[tokens, …]` to `[sequences, max, …]`, zeros after the end of each sequence.
    pub fn pad(&self, values: &Tensor) -> Tensor {
        let mut shape = values.size();
        shape.splice(0..1, [self.sequences(), self.max]);
        if self.is_uniform() {
            return values.reshape(&shape);
        }
        let mut flat = values.size();
        flat[0] = self.sequences() * self.max;
        Tensor::zeros(&flat, (values.kind(), values.device()))
            .index_copy(0, self.slots(), values)
            .reshape(&shape)
    }

    /// The inverse of [`Layout::pad`]: `[sequences, max, …]` to `[tokens, …]`.
    pub fn unpad(&self, padded: &Tensor) -> Tensor {
        let mut flat = padded.size();
        flat.splice(0..2, [self.sequences() * self.max]);
        let flat = padded.reshape(&flat);
        if self.is_uniform() {
            flat
        } else {
            flat.index_select(0, self.slots())
        }
    }
}

/// A ragged batch: `values[offsets[i]..offsets[i + 1]]` is sequence `i`.
#[derive(Debug)]
pub struct Packed {
    /// `[tokens, width]`.
    pub values: Tensor,
    /// Where each sequence lies.
    pub layout: Arc<Layout>,
}

impl Packed {
    /// Values `[tokens, width]` with their layout.
    ///
    /// # Panics
    ///
    /// When the first dimension is not the layout's total.
    pub fn new(values: Tensor, layout: Arc<Layout>) -> Self {
        assert_eq!(
            values.size()[0],
            layout.total(),
            "packed values match their layout"
        );
        Self { values, layout }
    }

    /// The same layout with other values.
    pub fn with(&self, values: Tensor) -> Self {
        Self::new(values, Arc::clone(&self.layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cistron_draws::seeded;

    #[test]
    fn padding_round_trips_ragged_and_empty_sequences() {
        let _held = seeded(1);
        for lengths in [vec![3, 0, 5], vec![4, 4], vec![1], vec![0, 2]] {
            let layout = Layout::new(&lengths, Device::Cpu);
            let values = Tensor::randn([layout.total(), 2], (Kind::Float, Device::Cpu));
            let padded = layout.pad(&values);
            assert_eq!(padded.size(), [layout.sequences(), layout.max(), 2]);
            assert_eq!(layout.unpad(&padded), values);
            let outside = padded.masked_select(&layout.valid().logical_not().unsqueeze(-1));
            assert_eq!(outside.abs().sum(Kind::Float).double_value(&[]), 0.0);
        }
    }

    #[test]
    fn positions_restart_in_each_sequence() {
        let layout = Layout::new(&[2, 0, 3], Device::Cpu);
        assert_eq!(
            Vec::<i64>::try_from(layout.positions()).expect("i64"),
            [0, 1, 0, 1, 2]
        );
        assert_eq!(layout.offsets(), [0, 2, 2, 5]);
    }
}
