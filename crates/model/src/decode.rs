//! Steps of a fixed batch without a question to the device.
//!
//! [`HNet::step`] asks, in every chunking stage, which rows start a chunk, and runs the inner
//! stages for those alone. A [`Decoder`] never asks: all rows pass through all stages, and a mask on
//! the device says whose states change. A step then does the same whatever the tokens are, so that
//! on CUDA it is recorded once and replayed as one launch.
//!
//! The price is the inner stages' matrix products for rows between chunks. States of rows that are
//! off are neither read nor written, and weights are read once a step whatever the number of rows,
//! so the price is small while reading weights outweighs arithmetic: up to [`MASKED_ROWS`] rows.

use cistron_kernels::graph::Graph;
use cistron_kernels::mamba3::Memory as Mamba3State;
use tch::{Kind, Tensor};

use crate::hnet::HNet;
use crate::state::{AttentionState, LayerState, Mamba2State, StageState, State};

/// Rows up to which masked steps are taken on CUDA. Two operations a weight and row meet the
/// machine's ratio of arithmetic to memory traffic (a few hundred in bf16) about here.
pub const MASKED_ROWS: i64 = 512;

/// Memory of one mixer, changed in place.
#[derive(Debug)]
pub(crate) enum LayerCache {
    Mamba2(Mamba2State),
    Mamba3(Mamba3State),
    Attention(AttentionCache),
}

/// Keys and values in a ring: position p lies in slot `p % slots`.
#[derive(Debug)]
pub(crate) struct AttentionCache {
    /// `[sequences, slots, heads, head_dim]`.
    pub k: Tensor,
    /// Like `k`.
    pub v: Tensor,
    /// Tokens that each sequence has had: i64 `[sequences]`, on the device.
    pub seen: Tensor,
}

/// Memory of a stage, changed in place.
#[derive(Debug)]
pub(crate) enum StageCache {
    Main(Vec<LayerCache>),
    Routed(Box<RoutedCache>),
}

/// Memory of a chunking stage, changed in place.
#[derive(Debug)]
pub(crate) struct RoutedCache {
    pub encoder: Vec<LayerCache>,
    /// Tokens that each sequence has had: i64 `[sequences]`, on the device.
    pub seen: Tensor,
    /// The encoder's last output: `[sequences, width]`.
    pub last: Tensor,
    /// The dechunk layer's running average: `[sequences, width]`.
    pub average: Tensor,
    pub inner: StageCache,
    pub decoder: Vec<LayerCache>,
}

impl AttentionCache {
    /// A copy of `state` with a slot for each token in sight of a `window`, or for `room` more
    /// tokens where the window has no end.
    fn new(state: &AttentionState, window: i64, room: i64) -> Self {
        let device = state.k.device();
        let longest = state.seen.iter().copied().max().unwrap_or(0);
        let slots = match window {
            ..0 => longest + room,
            window => (window + 1).min(longest + room),
        }
        .max(1);
        // Slot of the state that each slot of the ring takes; those without one take any.
        let mut source = vec![0; state.seen.len() * slots as usize];
        for (row, (&held, &seen)) in source
            .chunks_mut(slots as usize)
            .zip(state.held.iter().zip(&state.seen))
        {
            for position in (seen - held).max(seen - slots)..seen {
                row[(position % slots) as usize] = position - (seen - held);
            }
        }
        let source = Tensor::from_slice(&source)
            .to_device(device)
            .reshape([-1, slots, 1, 1]);
        let ring = |t: &Tensor| {
            let mut shape = t.size();
            shape[1] = slots;
            t.gather(1, &source.expand(shape, false), false)
        };
        Self {
            k: ring(&state.k),
            v: ring(&state.v),
            seen: Tensor::from_slice(&state.seen).to_device(device),
        }
    }
}

impl LayerCache {
    fn new(state: &LayerState, window: i64, room: i64) -> Self {
        let copy = |t: &Tensor| t.to_kind(Kind::Float).contiguous().copy();
        match state {
            LayerState::Mamba2(state) => Self::Mamba2(Mamba2State {
                conv: copy(&state.conv),
                ssm: copy(&state.ssm),
            }),
            LayerState::Mamba3(state) => Self::Mamba3(state.map(copy)),
            LayerState::Attention(state) => {
                Self::Attention(AttentionCache::new(state, window, room))
            }
        }
    }
}

impl StageCache {
    /// A copy of `state`; `window` gives the attention window of each stage.
    fn new(state: &StageState, stage: usize, window: &dyn Fn(usize) -> i64, room: i64) -> Self {
        let layers = |states: &[LayerState]| {
            states
                .iter()
                .map(|state| LayerCache::new(state, window(stage), room))
                .collect()
        };
        match state {
            StageState::Main(states) => Self::Main(layers(states)),
            StageState::Routed(state) => Self::Routed(Box::new(RoutedCache {
                encoder: layers(&state.encoder),
                seen: Tensor::from_slice(&state.seen).to_device(state.last.device()),
                last: state.last.copy(),
                average: state.average.copy(),
                inner: Self::new(&state.inner, stage + 1, window, room),
                decoder: layers(&state.decoder),
            })),
        }
    }
}

#[derive(Debug)]
enum Recording {
    /// Nothing has been recorded yet.
    Ahead,
    /// The step, and the scores that each replay fills.
    Ready(Graph, Tensor),
    /// Steps are launched operator by operator; why, where a recording was tried.
    Without(Option<String>),
}

/// Continues a fixed batch of sequences token by token.
#[derive(Debug)]
pub struct Decoder<'a> {
    model: &'a HNet,
    cache: StageCache,
    tokens: Tensor,
    active: Tensor,
    running: Vec<bool>,
    room: i64,
    recording: Recording,
}

impl<'a> Decoder<'a> {
    /// Continues from a copy of `state` by at most `room` tokens.
    pub fn new(model: &'a HNet, state: &State, room: usize) -> Self {
        let _guard = tch::no_grad_guard();
        let device = model.device();
        let window = |stage| model.config().attn_cfg.window_size.at(stage);
        let room = room as i64;
        let recording = if device.is_cuda() {
            Recording::Ahead
        } else {
            Recording::Without(None)
        };
        Self {
            model,
            cache: StageCache::new(&state.stage, 0, &window, room),
            tokens: Tensor::zeros([state.sequences], (Kind::Int64, device)),
            active: Tensor::ones([state.sequences], (Kind::Bool, device)),
            running: vec![true; state.sequences as usize],
            room,
            recording,
        }
    }

    /// Launches every operator instead of replaying a recording.
    #[must_use]
    pub fn without_graph(mut self) -> Self {
        self.recording = Recording::Without(None);
        self
    }

    /// Why steps are not replayed from a recording, where one was tried.
    pub fn graph_problem(&self) -> Option<&str> {
        match &self.recording {
            Recording::Without(problem) => problem.as_deref(),
            _ => None,
        }
    }

    /// Says which sequences take the steps to come; the others keep their memory.
    ///
    /// # Panics
    ///
    /// When there is not one value a sequence.
    pub fn run(&mut self, sequences: &[bool]) {
        assert_eq!(sequences.len(), self.running.len(), "one value a sequence");
        if sequences != self.running {
            self.active.copy_(&Tensor::from_slice(sequences));
            self.running = sequences.to_vec();
        }
    }

    /// One token of every sequence: i64 `[sequences]` to scores `[sequences, vocabulary]`, which
    /// the next step may write over. Those of sequences that do not run mean nothing.
    ///
    /// # Panics
    ///
    /// When there is not one token a sequence, or no room left.
    pub fn step(&mut self, tokens: &Tensor) -> Tensor {
        assert_eq!(tokens.size(), self.tokens.size(), "one token a sequence");
        assert!(self.room > 0, "no room is left for another token");
        let _guard = tch::no_grad_guard();
        self.room -= 1;
        self.tokens.copy_(tokens);
        if matches!(self.recording, Recording::Ahead) {
            self.record();
        }
        if let Recording::Ready(graph, scores) = &self.recording {
            match graph.replay() {
                Ok(()) => return scores.shallow_clone(),
                Err(error) => self.recording = Recording::Without(Some(error.to_string())),
            }
        }
        self.model
            .decode(&self.tokens, &mut self.cache, &self.active)
    }

    /// Records a step. The run before the recording takes no row, so that no memory changes.
    fn record(&mut self) {
        let _ = self.active.fill_(0);
        let recorded = Graph::record(self.model.device(), || {
            self.model
                .decode(&self.tokens, &mut self.cache, &self.active)
        });
        self.recording = match recorded {
            Ok((graph, scores)) => Recording::Ready(graph, scores),
            Err(error) => Recording::Without(Some(error.to_string())),
        };
        self.active.copy_(&Tensor::from_slice(&self.running));
    }
}
