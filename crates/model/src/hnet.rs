//! The hierarchical network and its language-model wrapper.

mod decode;
mod hidden;
mod latent;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cistron_kernels::{Layout, Packed, linear_float, upload};
use tch::{Device, Kind, Tensor};

use crate::arch::Arch;
use crate::checkpoint;
use crate::compute::{Compute, Precision};
use crate::config::{Chunking, Config};
use crate::error::ModelError;
use crate::isotropic::Isotropic;
use crate::mixer::Mixer;
use crate::params::Params;
use crate::routing::{Router, Routing};
use crate::state::{RoutedState, Rows, StageState, State};

/// What a model says of a packed batch.
#[derive(Debug)]
pub struct Output {
    /// Scores of the next token: `[tokens, vocabulary]`.
    pub logits: Tensor,
    /// What each router decided, outermost first.
    pub routing: Vec<Routing>,
}

/// What a pass through the stages carries along.
struct Pass<'a> {
    compute: &'a Compute,
    /// Whether states are kept.
    keep: bool,
    /// Where the tokens say that chunks of the outermost stage start: bool `[tokens]`.
    marks: Option<Tensor>,
    /// What each router has decided, outermost first.
    routing: Vec<Routing>,
}

impl<'a> Pass<'a> {
    fn new(compute: &'a Compute, keep: bool, marks: Option<Tensor>) -> Self {
        Self {
            compute,
            keep,
            marks,
            routing: Vec::new(),
        }
    }
}

/// One stage: the main network, or a chunking stage around another.
#[derive(Debug)]
struct Stage {
    /// Widens the input: `[width - outer width]`.
    pad: Option<Tensor>,
    network: Network,
}

#[derive(Debug)]
enum Network {
    Main(Isotropic),
    Routed(Box<Routed>),
}

#[derive(Debug)]
struct Routed {
    encoder: Isotropic,
    router: Router,
    inner: Stage,
    decoder: Isotropic,
}

impl Stage {
    fn new(config: &Config, arch: &Arch, stage: usize, prefix: &str, params: &Params) -> Self {
        let pad_name = format!("{prefix}pad_dimension");
        let pad = params
            .get(&pad_name)
            .map(|param| param.tensor.shallow_clone());
        let stack = |stack, name: &str| {
            Isotropic::new(config, stack, stage, &format!("{prefix}{name}."), params)
        };
        let network = match arch {
            Arch::Main(main) => Network::Main(stack(main, "main_network")),
            Arch::Routed {
                encoder,
                inner,
                decoder,
            } => Network::Routed(Box::new(Routed {
                encoder: stack(encoder, "encoder"),
                router: Router::new(config, stage, prefix, params),
                inner: Self::new(
                    config,
                    inner,
                    stage + 1,
                    &format!("{prefix}main_network."),
                    params,
                ),
                decoder: stack(decoder, "decoder"),
            })),
        };
        Self { pad, network }
    }

    fn widen(&self, x: &Tensor) -> Tensor {
        match &self.pad {
            None => x.shallow_clone(),
            Some(pad) => Tensor::cat(
                &[x, &pad.to_kind(x.kind()).expand([x.size()[0], -1], false)],
                1,
            ),
        }
    }

    fn forward(
        &self,
        x: &Packed,
        initial: Option<&StageState>,
        pass: &mut Pass<'_>,
    ) -> (Tensor, Option<StageState>) {
        let (keep, compute) = (pass.keep, pass.compute);
        let outer = x.values.size()[1];
        let x = x.with(self.widen(&x.values));
        let (y, state) = match (&self.network, initial) {
            (Network::Main(main), None) => {
                let (y, state) = main.forward(&x, None, keep, compute);
                (y.values, StageState::Main(state))
            }
            (Network::Main(main), Some(StageState::Main(initial))) => {
                let (y, state) = main.forward(&x, Some(initial), keep, compute);
                (y.values, StageState::Main(state))
            }
            (Network::Routed(stage), None) => stage.forward(&x, None, pass),
            (Network::Routed(stage), Some(StageState::Routed(initial))) => {
                stage.forward(&x, Some(initial), pass)
            }
            _ => unreachable!("a state comes from a model of the same layout"),
        };
        (y.narrow(1, 0, outer), keep.then_some(state))
    }

    fn step(
        &self,
        x: &Tensor,
        rows: &Rows,
        state: &mut StageState,
        total: i64,
        compute: &Compute,
    ) -> Tensor {
        let outer = x.size()[1];
        let x = self.widen(x);
        let y = match (&self.network, state) {
            (Network::Main(main), StageState::Main(state)) => main.step(&x, rows, state, compute),
            (Network::Routed(stage), StageState::Routed(state)) => {
                stage.step(&x, rows, state, total, compute)
            }
            _ => unreachable!("a state comes from a model of the same layout"),
        };
        y.narrow(1, 0, outer)
    }

    fn empty_state(&self, sequences: i64, width: i64, options: (Kind, Device)) -> StageState {
        match &self.network {
            Network::Main(main) => StageState::Main(main.empty_state(sequences, options)),
            Network::Routed(stage) => {
                let width = width + self.pad.as_ref().map_or(0, |pad| pad.size()[0]);
                let zeros = || Tensor::zeros([sequences, width], (Kind::Float, options.1));
                StageState::Routed(Box::new(RoutedState {
                    encoder: stage.encoder.empty_state(sequences, options),
                    seen: vec![0; sequences as usize],
                    last: zeros(),
                    average: zeros(),
                    inner: stage.inner.empty_state(sequences, width, options),
                    decoder: stage.decoder.empty_state(sequences, options),
                }))
            }
        }
    }

    fn mixers<'a>(&'a self, out: &mut Vec<&'a Mixer>) {
        match &self.network {
            Network::Main(main) => out.extend(main.mixers()),
            Network::Routed(stage) => {
                out.extend(stage.encoder.mixers());
                stage.inner.mixers(out);
                out.extend(stage.decoder.mixers());
            }
        }
    }
}

impl Routed {
    fn forward(
        &self,
        x: &Packed,
        initial: Option<&RoutedState>,
        pass: &mut Pass<'_>,
    ) -> (Tensor, StageState) {
        let (keep, compute) = (pass.keep, pass.compute);
        let (encoded, encoder) = self.encoder.forward(
            x,
            initial.map(|state| state.encoder.as_slice()),
            keep,
            compute,
        );
        let before = initial.map(|state| (&state.last, state.seen.as_slice()));
        let (chunked, decided) = {
            let share = compute.selection.get(pass.routing.len()).copied();
            let marks = pass.marks.take();
            self.router.chunk(&encoded, before, marks.as_ref(), share)
        };
        pass.routing.push(decided);
        let (inner_out, inner_state) =
            self.inner
                .forward(&chunked.selected, initial.map(|state| &state.inner), pass);
        let z = Packed::new(inner_out, Arc::clone(chunked.layout()));
        let average = initial.map(|state| &state.average);
        let (back, average) = self.router.dechunk(&z, &chunked, average, keep);
        let (decoded, decoder) = self.decoder.forward(
            &x.with(back),
            initial.map(|state| state.decoder.as_slice()),
            keep,
            compute,
        );
        let inner = inner_state.unwrap_or_else(|| StageState::Main(Vec::new()));
        let none = || encoded.values.narrow(0, 0, 0);
        let (last, seen) = if keep {
            last_vectors(&encoded, initial)
        } else {
            (none(), Vec::new())
        };
        let average = average.unwrap_or_else(none);
        let state = RoutedState {
            encoder,
            seen,
            last,
            average,
            inner,
            decoder,
        };
        (decoded.values, StageState::Routed(Box::new(state)))
    }

    fn step(
        &self,
        x: &Tensor,
        rows: &Rows,
        state: &mut RoutedState,
        total: i64,
        compute: &Compute,
    ) -> Tensor {
        let device = x.device();
        let encoded = self.encoder.step(x, rows, &mut state.encoder, compute);
        let residual = self.router.residual(&encoded);
        let seen: Vec<i64> = rows
            .list
            .iter()
            .map(|&row| state.seen[row as usize])
            .collect();
        let seen = Tensor::from_slice(&seen).to_device(device);
        let prob = self.router.step(&rows.take(&state.last), &encoded, &seen);
        rows.put(&mut state.last, encoded.shallow_clone());
        for &row in &rows.list {
            state.seen[row as usize] += 1;
        }
        let decided =
            Vec::<bool>::try_from(&prob.gt(0.5).to_device(Device::Cpu)).expect("bool mask");
        let starting: Vec<i64> = (0..)
            .zip(&decided)
            .filter(|(_, b)| **b)
            .map(|(i, _)| i)
            .collect();
        if !starting.is_empty() {
            let here = upload(&starting, device);
            let numbers = starting.iter().map(|&i| rows.list[i as usize]).collect();
            let inner_rows = Rows::some(numbers, total, device);
            let z = self.inner.step(
                &encoded.index_select(0, &here),
                &inner_rows,
                &mut state.inner,
                total,
                compute,
            );
            let p = self
                .router
                .smoothing(&prob.index_select(0, &here))
                .unsqueeze(-1);
            let average = inner_rows.take(&state.average);
            let keep: Tensor = 1.0 - &p;
            inner_rows.put(&mut state.average, z * &p + average * keep);
        }
        self.decoder.step(
            &(rows.take(&state.average) + residual),
            rows,
            &mut state.decoder,
            compute,
        )
    }
}

/// The last vector of each sequence, and how many there have been.
fn last_vectors(encoded: &Packed, initial: Option<&RoutedState>) -> (Tensor, Vec<i64>) {
    let layout = &encoded.layout;
    let width = encoded.values.size()[1];
    let device = encoded.values.device();
    let mut last = match initial {
        Some(state) => state.last.shallow_clone(),
        None => Tensor::zeros([layout.sequences(), width], (Kind::Float, device)),
    };
    let mut seen = match initial {
        Some(state) => state.seen.clone(),
        None => vec![0; layout.lengths().len()],
    };
    let ended: Vec<usize> = (0..seen.len())
        .filter(|&row| layout.lengths()[row] > 0)
        .collect();
    if !ended.is_empty() {
        let rows: Vec<i64> = ended.iter().map(|&row| row as i64).collect();
        let ends: Vec<i64> = ended
            .iter()
            .map(|&row| layout.offsets()[row + 1] - 1)
            .collect();
        let tensor = |list: &[i64]| upload(list, device);
        let vectors = encoded.values.index_select(0, &tensor(&ends));
        last = last.index_copy(0, &tensor(&rows), &vectors.to_kind(last.kind()));
    }
    for (seen, length) in seen.iter_mut().zip(layout.lengths()) {
        *seen += length;
    }
    (last, seen)
}

/// A hierarchical language model.
#[derive(Debug)]
pub struct HNet {
    config: Config,
    params: Params,
    embeddings: Tensor,
    head: Tensor,
    backbone: Stage,
    device: Device,
    compute: Compute,
}

impl HNet {
    /// A model with freshly drawn parameters; the same seed gives the same ones everywhere.
    ///
    /// # Errors
    ///
    /// The configuration is not valid.
    pub fn new(config: &Config, seed: u64, device: Device) -> Result<Self, ModelError> {
        config.validate()?;
        Ok(Self::with_params(
            config.clone(),
            Params::init(config, seed, device),
            device,
        ))
    }

    /// A model around parameters that follow from `config`; it computes in fp32.
    pub fn with_params(config: Config, params: Params, device: Device) -> Self {
        let config = config.settled();
        let embeddings = params.tensor("embeddings.weight");
        let head = params.get("lm_head.weight").map_or_else(
            || embeddings.shallow_clone(),
            |param| param.tensor.shallow_clone(),
        );
        let backbone = Stage::new(&config, &config.arch_layout, 0, "backbone.", &params);
        Self {
            config,
            params,
            embeddings,
            head,
            backbone,
            device,
            compute: Compute::new(Precision::Fp32),
        }
    }

    /// The same model, computing otherwise. Parameters stay fp32 leaves: each is converted
    /// where it is used, and gradients come back in fp32.
    #[must_use]
    pub fn with_compute(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// A model with the same values for inference: the large matrices are converted once,
    /// and nothing requires a gradient.
    #[must_use]
    pub fn for_inference(&self, precision: Precision) -> Self {
        let params = self.params.for_inference(precision.kind());
        Self::with_params(self.config.clone(), params, self.device)
            .with_compute(Compute::new(precision))
    }

    /// How it computes.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Reads a model folder (`config.json`, `model.safetensors`).
    ///
    /// # Errors
    ///
    /// A file is missing, damaged, or of another model than the config describes.
    pub fn load(folder: &Path, device: Device) -> Result<Self, ModelError> {
        checkpoint::load(folder, device)
    }

    /// Writes a model folder; `metadata` goes into the safetensors header.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn save(
        &self,
        folder: &Path,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), ModelError> {
        checkpoint::save(self, folder, Kind::Float, metadata)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Where the parameters lie.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The mixers of all stacks, in the order tokens meet them.
    pub fn mixers(&self) -> Vec<&Mixer> {
        let mut mixers = Vec::new();
        self.backbone.mixers(&mut mixers);
        mixers
    }

    /// Another handle on the same parameters, for a worker thread.
    pub fn shallow_clone(&self) -> Self {
        Self::with_params(
            self.config.clone(),
            self.params.shallow_clone(),
            self.device,
        )
        .with_compute(self.compute.clone())
    }

    /// A model with the same values, whose parameters gather gradients of their own.
    pub fn leaves(&self) -> Self {
        Self::with_params(self.config.clone(), self.params.leaves(), self.device)
            .with_compute(self.compute.clone())
    }

    /// Scores the token after each of `tokens`, i64 `[tokens]`, packed by `lengths`.
    ///
    /// # Panics
    ///
    /// When the lengths do not add up to the tokens, or a token is outside the vocabulary.
    pub fn forward(&self, tokens: &Tensor, lengths: &[i64]) -> Output {
        self.run(tokens, lengths, None, false).0
    }

    /// As [`HNet::forward`], continuing each sequence from `state`; returns the state after it.
    ///
    /// # Panics
    ///
    /// As [`HNet::forward`], or when `state` has another number of sequences.
    pub fn forward_from(
        &self,
        tokens: &Tensor,
        lengths: &[i64],
        state: Option<&State>,
    ) -> (Output, State) {
        let (output, state) = self.run(tokens, lengths, state, true);
        (output, state.expect("the state was asked for"))
    }

    /// As [`HNet::forward`], continuing each sequence from `state`.
    ///
    /// # Panics
    ///
    /// As [`HNet::forward_from`].
    pub fn forward_after(&self, tokens: &Tensor, lengths: &[i64], state: &State) -> Output {
        self.run(tokens, lengths, Some(state), false).0
    }

    /// The vectors of tokens, and their marks where chunks start at marks.
    fn embed(&self, tokens: &Tensor, lengths: &[i64]) -> (Packed, Option<Tensor>) {
        let tokens = tokens.to_device(self.device);
        let (tokens, marks) = match self.config.cistron.chunking {
            Chunking::Codons => {
                let size = self.config.vocab_size;
                (tokens.remainder(size), Some(tokens.ge(size)))
            }
            _ => (tokens, None),
        };
        let x = Tensor::embedding(&self.embeddings, &tokens, -1, false, false);
        (Packed::new(x, Layout::new(lengths, self.device)), marks)
    }

    fn run(
        &self,
        tokens: &Tensor,
        lengths: &[i64],
        initial: Option<&State>,
        keep: bool,
    ) -> (Output, Option<State>) {
        if let Some(state) = initial {
            assert_eq!(
                state.sequences,
                lengths.len() as i64,
                "a state for each sequence"
            );
        }
        let (x, marks) = self.embed(tokens, lengths);
        let mut pass = Pass::new(&self.compute, keep, marks);
        let (y, stage) = self
            .backbone
            .forward(&x, initial.map(|state| &state.stage), &mut pass);
        let routing = pass.routing;
        let logits = self.logits(&y);
        let sequences = lengths.len() as i64;
        (
            Output { logits, routing },
            stage.map(|stage| State { stage, sequences }),
        )
    }

    /// The state of `sequences` sequences that have seen nothing.
    pub fn empty_state(&self, sequences: i64) -> State {
        let options = (self.compute.kind(), self.device);
        let stage = self
            .backbone
            .empty_state(sequences, self.config.d_model[0], options);
        State { stage, sequences }
    }

    /// One token of every sequence: i64 `[sequences]` to scores `[sequences, vocabulary]`.
    ///
    /// For inference: call it under [`tch::no_grad`].
    ///
    /// # Panics
    ///
    /// When `tokens` has another number of sequences than `state`.
    pub fn step(&self, tokens: &Tensor, state: &mut State) -> Tensor {
        assert_eq!(tokens.size(), [state.sequences], "one token a sequence");
        let tokens = tokens.to_device(self.device);
        let x = Tensor::embedding(&self.embeddings, &tokens, -1, false, false);
        let rows = Rows::all(state.sequences);
        let y = self
            .backbone
            .step(&x, &rows, &mut state.stage, state.sequences, &self.compute);
        self.logits(&y)
    }

    /// Scores in fp32.
    fn logits(&self, y: &Tensor) -> Tensor {
        linear_float(y, &self.head)
    }
}
