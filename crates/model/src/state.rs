//! The memory of a model between two tokens, as a value.
//!
//! A [`State`] can be forked, cut down to some of its sequences, moved to another
//! device, and saved. Generation, streaming and prefix reuse are all uses of it.

mod carry;

use std::collections::BTreeMap;
use std::path::Path;

use cistron_kernels::mamba3::Memory as Mamba3State;
use tch::{Device, Kind, Tensor};

use crate::checkpoint;
use crate::error::ModelError;

/// Memory of one block's mixer.
#[derive(Debug)]
pub(crate) enum LayerState {
    Mamba2(Mamba2State),
    Mamba3(Mamba3State),
    Attention(AttentionState),
}

/// Memory of a Mamba-2 mixer.
#[derive(Debug)]
pub(crate) struct Mamba2State {
    /// The last inputs of the convolution: `[sequences, d_conv - 1, channels]`.
    pub conv: Tensor,
    /// `[sequences, heads, head_dim, state]`, fp32.
    pub ssm: Tensor,
}

/// Memory of an attention mixer: keys and values of tokens still in sight.
#[derive(Debug)]
pub(crate) struct AttentionState {
    /// `[sequences, slots, heads, head_dim]`; the first `held` slots are in use.
    pub k: Tensor,
    /// Like `k`.
    pub v: Tensor,
    /// Slots in use, for each sequence.
    pub held: Vec<i64>,
    /// Tokens that each sequence has had.
    pub seen: Vec<i64>,
}

/// Memory of a stage.
#[derive(Debug)]
pub(crate) enum StageState {
    Main(Vec<LayerState>),
    Routed(Box<RoutedState>),
}

/// Memory of a chunking stage.
#[derive(Debug)]
pub(crate) struct RoutedState {
    pub encoder: Vec<LayerState>,
    /// Tokens that each sequence has had; its first is always a boundary.
    pub seen: Vec<i64>,
    /// The encoder's last output: `[sequences, width]`.
    pub last: Tensor,
    /// The dechunk layer's running average: `[sequences, width]`, fp32.
    pub average: Tensor,
    pub inner: StageState,
    pub decoder: Vec<LayerState>,
}

/// The memory of a model for a batch of sequences, after the tokens it has seen.
#[derive(Debug)]
pub struct State {
    pub(crate) stage: StageState,
    pub(crate) sequences: i64,
}

/// A part of a state that [`State::map`] rebuilds.
trait Part: Sized {
    fn visit(&mut self, prefix: &str, visitor: &mut dyn Visitor);
}

trait Visitor {
    fn tensor(&mut self, name: String, tensor: &mut Tensor);
    fn counts(&mut self, name: String, counts: &mut Vec<i64>);
}

impl Part for LayerState {
    fn visit(&mut self, prefix: &str, visitor: &mut dyn Visitor) {
        match self {
            Self::Mamba2(state) => {
                visitor.tensor(format!("{prefix}conv"), &mut state.conv);
                visitor.tensor(format!("{prefix}ssm"), &mut state.ssm);
            }
            Self::Mamba3(state) => {
                visitor.tensor(format!("{prefix}angle"), &mut state.angle);
                visitor.tensor(format!("{prefix}ssm"), &mut state.ssm);
                visitor.tensor(format!("{prefix}k"), &mut state.k);
                visitor.tensor(format!("{prefix}v"), &mut state.v);
            }
            Self::Attention(state) => {
                visitor.tensor(format!("{prefix}k"), &mut state.k);
                visitor.tensor(format!("{prefix}v"), &mut state.v);
                visitor.counts(format!("{prefix}held"), &mut state.held);
                visitor.counts(format!("{prefix}seen"), &mut state.seen);
            }
        }
    }
}

fn visit_layers(layers: &mut [LayerState], prefix: &str, visitor: &mut dyn Visitor) {
    for (i, layer) in layers.iter_mut().enumerate() {
        layer.visit(&format!("{prefix}layers.{i}."), visitor);
    }
}

impl Part for StageState {
    fn visit(&mut self, prefix: &str, visitor: &mut dyn Visitor) {
        match self {
            Self::Main(layers) => visit_layers(layers, &format!("{prefix}main_network."), visitor),
            Self::Routed(state) => {
                visit_layers(&mut state.encoder, &format!("{prefix}encoder."), visitor);
                visitor.counts(format!("{prefix}routing_module.seen"), &mut state.seen);
                visitor.tensor(format!("{prefix}routing_module.last"), &mut state.last);
                visitor.tensor(format!("{prefix}dechunk_layer.average"), &mut state.average);
                state
                    .inner
                    .visit(&format!("{prefix}main_network."), visitor);
                visit_layers(&mut state.decoder, &format!("{prefix}decoder."), visitor);
            }
        }
    }
}

/// Replaces every tensor and list by what the functions return.
struct Replace<'a> {
    tensor: &'a mut dyn FnMut(&str, &Tensor) -> Tensor,
    counts: &'a mut dyn FnMut(&str, &[i64]) -> Vec<i64>,
}

impl Visitor for Replace<'_> {
    fn tensor(&mut self, name: String, tensor: &mut Tensor) {
        *tensor = (self.tensor)(&name, tensor);
    }
    fn counts(&mut self, name: String, counts: &mut Vec<i64>) {
        *counts = (self.counts)(&name, counts);
    }
}

impl State {
    /// Number of sequences.
    pub fn sequences(&self) -> i64 {
        self.sequences
    }

    /// A copy that shares nothing with this one.
    pub fn fork(&self) -> Self {
        self.map(self.sequences, &mut |_, t| t.copy(), &mut |_, counts| {
            counts.to_vec()
        })
    }

    /// The memory of some sequences, in the order given; one may come more than once.
    ///
    /// # Panics
    ///
    /// When a row is not one of the sequences.
    pub fn select(&self, rows: &[i64]) -> Self {
        self.map(
            rows.len() as i64,
            &mut |_, t| t.index_select(0, &Tensor::from_slice(rows).to_device(t.device())),
            &mut |_, counts| rows.iter().map(|&row| counts[row as usize]).collect(),
        )
    }

    /// A copy on `device`.
    pub fn to_device(&self, device: Device) -> Self {
        self.map(
            self.sequences,
            &mut |_, t| t.to_device(device).copy(),
            &mut |_, counts| counts.to_vec(),
        )
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        let mut bytes = 0;
        self.map(
            self.sequences,
            &mut |_, t| {
                bytes += (t.numel() * t.kind().elt_size_in_bytes()) as u64;
                t.shallow_clone()
            },
            &mut |_, counts| counts.to_vec(),
        );
        bytes
    }

    /// Writes the state as one safetensors file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut lists = Vec::new();
        self.map(
            self.sequences,
            &mut |name, t| {
                tensors.push((name.to_owned(), t.shallow_clone()));
                t.shallow_clone()
            },
            &mut |name, counts| {
                lists.push((name.to_owned(), Tensor::from_slice(counts)));
                counts.to_vec()
            },
        );
        tensors.append(&mut lists);
        let metadata = BTreeMap::from([("sequences".into(), self.sequences.to_string())]);
        checkpoint::write_tensors(path, &tensors, &metadata)
    }

    /// Reads a saved state; `like` is any state of the same model.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a state of such a model.
    pub fn load(path: &Path, like: &Self) -> Result<Self, ModelError> {
        let file = checkpoint::TensorFile::open(path)?;
        let sequences = file
            .metadata()
            .get("sequences")
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| ModelError::format(path, "not a saved state: no 'sequences' entry"))?;
        let mut problem = None;
        let mut find = |name: &str| match file.tensor(name) {
            Ok(tensor) => Some(tensor),
            Err(error) => {
                problem.get_or_insert(error);
                None
            }
        };
        let find = std::cell::RefCell::new(&mut find);
        let state = like.map(
            sequences,
            &mut |name, t| {
                let found = find.borrow_mut()(name);
                found.map_or_else(|| t.shallow_clone(), |found| found.to_device(t.device()))
            },
            &mut |name, counts| {
                let found = find.borrow_mut()(name);
                found
                    .and_then(|t| Vec::try_from(t).ok())
                    .unwrap_or_else(|| counts.to_vec())
            },
        );
        match problem {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }

    fn map(
        &self,
        sequences: i64,
        tensor: &mut dyn FnMut(&str, &Tensor) -> Tensor,
        counts: &mut dyn FnMut(&str, &[i64]) -> Vec<i64>,
    ) -> Self {
        let mut stage = self.stage.shallow_clone();
        stage.visit("", &mut Replace { tensor, counts });
        Self { stage, sequences }
    }
}

impl LayerState {
    fn shallow_clone(&self) -> Self {
        match self {
            Self::Mamba2(Mamba2State { conv, ssm }) => Self::Mamba2(Mamba2State {
                conv: conv.shallow_clone(),
                ssm: ssm.shallow_clone(),
            }),
            Self::Mamba3(state) => Self::Mamba3(state.map(Tensor::shallow_clone)),
            Self::Attention(AttentionState { k, v, held, seen }) => {
                Self::Attention(AttentionState {
                    k: k.shallow_clone(),
                    v: v.shallow_clone(),
                    held: held.clone(),
                    seen: seen.clone(),
                })
            }
        }
    }
}

impl StageState {
    fn shallow_clone(&self) -> Self {
        let layers = |layers: &[LayerState]| layers.iter().map(LayerState::shallow_clone).collect();
        match self {
            Self::Main(main) => Self::Main(layers(main)),
            Self::Routed(state) => Self::Routed(Box::new(RoutedState {
                encoder: layers(&state.encoder),
                seen: state.seen.clone(),
                last: state.last.shallow_clone(),
                average: state.average.shallow_clone(),
                inner: state.inner.shallow_clone(),
                decoder: layers(&state.decoder),
            })),
        }
    }
}

/// Some of the sequences of a state, for a step that the others do not take.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Their numbers.
    pub list: Vec<i64>,
    /// The same as an index tensor; none when all sequences take the step in order.
    index: Option<Tensor>,
}

impl Rows {
    pub fn all(sequences: i64) -> Self {
        Self {
            list: (0..sequences).collect(),
            index: None,
        }
    }

    pub fn some(list: Vec<i64>, sequences: i64, device: Device) -> Self {
        if list.len() as i64 == sequences {
            return Self::all(sequences);
        }
        let index = Some(Tensor::from_slice(&list).to_device(device));
        Self { list, index }
    }

    /// The rows of a state tensor.
    pub fn take(&self, tensor: &Tensor) -> Tensor {
        self.index
            .as_ref()
            .map_or_else(|| tensor.shallow_clone(), |i| tensor.index_select(0, i))
    }

    /// Replaces the rows of a state tensor, leaving the old one as it was.
    pub fn put(&self, tensor: &mut Tensor, values: Tensor) {
        let values = values.to_kind(tensor.kind());
        *tensor = match &self.index {
            None => values,
            Some(index) => tensor.index_copy(0, index, &values),
        };
    }

    /// An index tensor in any case.
    pub fn index(&self, device: Device) -> Tensor {
        self.index.as_ref().map_or_else(
            || Tensor::from_slice(&self.list).to_device(device),
            Tensor::shallow_clone,
        )
    }
}

impl AttentionState {
    /// Room for one more token in each of `rows`: forgets what a window no longer
    /// sees, or doubles the slots.
    pub fn reserve(&mut self, rows: &[i64], window: i64) {
        let slots = self.k.size()[1];
        if rows.iter().all(|&row| self.held[row as usize] < slots) {
            return;
        }
        if window >= 0 {
            self.forget(window);
        }
        let slots = self.k.size()[1];
        let wanted = self.held.iter().max().map_or(1, |held| held + 1);
        if wanted > slots / 2 {
            let mut size = self.k.size();
            size[1] = (2 * wanted).max(16) - slots;
            let room = Tensor::zeros(&size, (self.k.kind(), self.k.device()));
            self.k = Tensor::cat(&[&self.k, &room], 1);
            self.v = Tensor::cat(&[&self.v, &room], 1);
        }
    }

    /// Keeps the last `window` tokens of every sequence, moved to the front.
    fn forget(&mut self, window: i64) {
        let kept: Vec<i64> = self.held.iter().map(|&held| held.min(window)).collect();
        let slots = self.k.size()[1];
        let index: Vec<i64> = self
            .held
            .iter()
            .zip(&kept)
            .flat_map(|(&held, &kept)| {
                (0..slots).map(move |slot| (held - kept + slot).min(slots - 1))
            })
            .collect();
        let index = Tensor::from_slice(&index)
            .to_device(self.k.device())
            .reshape([-1, slots, 1, 1]);
        let index = index.expand(self.k.size(), false);
        self.k = self.k.gather(1, &index, false);
        self.v = self.v.gather(1, &index, false);
        self.held = kept;
    }

    /// Positions of the slots: i64 `[sequences, slots]`, `i64::MAX` where none is held.
    pub fn positions(&self) -> Tensor {
        let device = self.k.device();
        let column = |values: &[i64]| Tensor::from_slice(values).to_device(device).unsqueeze(1);
        let slots = Tensor::arange(self.k.size()[1], (Kind::Int64, device)).unsqueeze(0);
        let (held, seen) = (column(&self.held), column(&self.seen));
        let unused = slots.ge_tensor(&held);
        (slots + seen - held).masked_fill(&unused, i64::MAX)
    }
}
