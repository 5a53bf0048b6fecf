//! States between windows of training: cut off from gradients, emptied by sequence, or
//! with other scan states in them.

use tch::Tensor;

use super::{AttentionState, LayerState, RoutedState, StageState, State};

/// Last part of the names of scan states, what a recurrent mixer remembers of all tokens.
const SCAN: &str = "ssm";

impl State {
    /// The same values, through which no gradient flows.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.map(
            self.sequences,
            &mut |_, tensor| tensor.detach(),
            &mut |_, counts| counts.to_vec(),
        )
    }

    /// A state in which the sequences of `rows` remember nothing.
    ///
    /// # Panics
    ///
    /// When there is not one entry for each sequence.
    #[must_use]
    pub fn forget(&self, rows: &[bool]) -> Self {
        assert_eq!(rows.len() as i64, self.sequences, "one entry a sequence");
        self.map(
            self.sequences,
            &mut |_, tensor| {
                let mut shape = vec![1; tensor.dim()];
                shape[0] = self.sequences;
                let gone = Tensor::from_slice(rows)
                    .to_device(tensor.device())
                    .view(shape.as_slice());
                tensor.masked_fill(&gone, 0.0)
            },
            &mut |_, counts| {
                let kept = counts.iter().zip(rows);
                kept.map(|(&count, &gone)| if gone { 0 } else { count })
                    .collect()
            },
        )
    }

    /// What the recurrent mixers remember, and nothing else: attention has seen no token,
    /// and the next token is the first of each router.
    #[must_use]
    pub fn recurrent(&self) -> Self {
        Self {
            stage: self.stage.recurrent(),
            sequences: self.sequences,
        }
    }

    /// The scan states with the names of their layers: fp32 `[sequences, heads, …]`.
    pub fn scans(&self) -> Vec<(String, Tensor)> {
        let mut scans = Vec::new();
        let _ = self.map_scans(&mut |name, tensor| {
            scans.push((name.to_owned(), tensor.shallow_clone()));
            tensor.shallow_clone()
        });
        scans
    }

    /// The state with other scan states; `f` has their names and values.
    #[must_use]
    pub fn map_scans(&self, f: &mut dyn FnMut(&str, &Tensor) -> Tensor) -> Self {
        self.map(
            self.sequences,
            &mut |name, tensor| match name.rsplit_once('.') {
                Some((layer, SCAN)) => f(layer, tensor),
                _ => tensor.shallow_clone(),
            },
            &mut |_, counts| counts.to_vec(),
        )
    }

    /// Euclidean norm of each head's scan state, by the layers' names: fp32
    /// `[sequences, heads]`.
    pub fn scan_norms(&self) -> Vec<(String, Tensor)> {
        let norm = |(name, scan): (String, Tensor)| {
            let norm = scan
                .flatten(2, -1)
                .norm_scalaropt_dim(2, [-1i64].as_slice(), false);
            (name, norm)
        };
        self.scans().into_iter().map(norm).collect()
    }
}

impl StageState {
    fn recurrent(&self) -> Self {
        let only = |layers: &[LayerState]| layers.iter().map(LayerState::recurrent).collect();
        match self {
            Self::Main(layers) => Self::Main(only(layers)),
            Self::Routed(state) => Self::Routed(Box::new(RoutedState {
                encoder: only(&state.encoder),
                seen: vec![0; state.seen.len()],
                last: state.last.zeros_like(),
                average: state.average.zeros_like(),
                inner: state.inner.recurrent(),
                decoder: only(&state.decoder),
            })),
        }
    }
}

impl LayerState {
    fn recurrent(&self) -> Self {
        match self {
            Self::Attention(state) => {
                let none = vec![0; state.held.len()];
                Self::Attention(AttentionState {
                    k: state.k.narrow(1, 0, 1),
                    v: state.v.narrow(1, 0, 1),
                    held: none.clone(),
                    seen: none,
                })
            }
            recurrent => recurrent.shallow_clone(),
        }
    }
}
