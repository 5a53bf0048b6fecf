//! What can be trained on letters: the head itself, and the networks it is compared with.

mod cnn;
mod global;

use cistron_model::lyra::{Group, Lyra, Noise};
use tch::{Device, Kind, Tensor};

pub use cnn::Cnn;
pub use global::Global;

/// Sequences as tensors, all rows of a table.
#[derive(Debug)]
pub struct Inputs {
    /// Numbers of letters u8 `[n, L]`; the number of letters itself fills up on the right.
    pub letters: Tensor,
    /// Number of letters.
    pub size: i64,
    /// Embeddings `[n, L', d]` in half precision with a mask `[n, L']`, for heads on a backbone.
    pub embeddings: Option<(Tensor, Tensor)>,
}

/// The inputs of some rows.
#[derive(Debug)]
pub struct Batch {
    /// i64 `[B, L]`.
    pub letters: Tensor,
    /// fp32 `[B, L', d]` and `[B, L']`.
    pub embeddings: Option<(Tensor, Tensor)>,
}

impl Inputs {
    /// Letters of sequences, filled up to the longest.
    pub fn letters(sequences: &[&[u8]], size: usize, device: Device) -> Self {
        let longest = sequences.iter().map(|s| s.len()).max().unwrap_or(0).max(1);
        let mut values = vec![size as u8; sequences.len() * longest];
        for (row, sequence) in values.chunks_mut(longest).zip(sequences) {
            row[..sequence.len()].copy_from_slice(sequence);
        }
        let letters = Tensor::from_slice(&values)
            .reshape([sequences.len() as i64, longest as i64])
            .to_device(device);
        Self {
            letters,
            size: size as i64,
            embeddings: None,
        }
    }

    /// Another handle on the same tensors.
    pub fn shallow_clone(&self) -> Self {
        Self {
            letters: self.letters.shallow_clone(),
            size: self.size,
            embeddings: self
                .embeddings
                .as_ref()
                .map(|(x, mask)| (x.shallow_clone(), mask.shallow_clone())),
        }
    }

    /// Length of the longest sequence.
    pub fn length(&self) -> i64 {
        self.letters.size()[1]
    }

    /// The rows of `index`, i64 `[B]`.
    pub fn batch(&self, index: &Tensor) -> Batch {
        Batch {
            letters: self.letters.index_select(0, index).to_kind(Kind::Int64),
            embeddings: self.embeddings.as_ref().map(|(x, mask)| {
                let x = x.index_select(0, index).to_kind(Kind::Float);
                (x, mask.index_select(0, index).to_kind(Kind::Float))
            }),
        }
    }
}

/// A network with its parameters.
#[derive(Debug)]
pub enum Network {
    /// The head, with the wild type's letters i64 `[1, L]` or its embedding where it is compared.
    Lyra(Box<Lyra>, Option<Tensor>),
    /// A convolutional network.
    Cnn(Cnn),
    /// Additive, with one nonlinearity.
    Global(Global),
}

impl Network {
    /// Outputs `[B, outputs]`; `noise` switches dropout on.
    pub fn forward(&self, batch: &Batch, noise: Option<&Noise>) -> Tensor {
        match (self, &batch.embeddings) {
            (Self::Lyra(lyra, None), Some((x, mask))) => lyra.forward(x, Some(mask), noise),
            (Self::Lyra(lyra, Some(wild_type)), Some((x, _))) => lyra.compare(x, wild_type, noise),
            (Self::Lyra(lyra, wild_type), None) => {
                lyra.letters(&batch.letters, wild_type.as_ref(), noise)
            }
            (Self::Cnn(cnn), _) => cnn.forward(&batch.letters),
            (Self::Global(global), _) => global.forward(&batch.letters),
        }
    }

    /// What is trained, `[K, B, outputs]`, K members each on its own error; with the ranks behind the values
    /// where [`Network::ranks`] says so.
    pub fn trained(&self, batch: &Batch, noise: Option<&Noise>) -> Tensor {
        let members = match self {
            Self::Lyra(lyra, _) => lyra.members(&batch.letters, noise),
            _ => None,
        };
        members.unwrap_or_else(|| self.forward(batch, noise).unsqueeze(0))
    }

    /// Whether it learns the ranks of values beside them.
    pub fn ranks(&self) -> bool {
        matches!(self, Self::Lyra(lyra, _) if lyra.config().ranks)
    }

    /// Another handle on the same parameters, for a worker thread.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        match self {
            Self::Lyra(lyra, wild_type) => Self::Lyra(
                Box::new(lyra.shallow_clone()),
                wild_type.as_ref().map(Tensor::shallow_clone),
            ),
            Self::Cnn(cnn) => Self::Cnn(cnn.shallow_clone()),
            Self::Global(global) => Self::Global(global.shallow_clone()),
        }
    }

    /// Its parameters, in a fixed order.
    pub fn params(&self) -> Vec<(Tensor, Group)> {
        match self {
            Self::Lyra(lyra, _) => lyra
                .params()
                .iter()
                .map(|(_, tensor, group)| (tensor.shallow_clone(), group))
                .collect(),
            Self::Cnn(cnn) => cnn.params(),
            Self::Global(global) => global.params(),
        }
    }

    /// Number of values in all parameters.
    pub fn size(&self) -> usize {
        self.params().iter().map(|(tensor, _)| tensor.numel()).sum()
    }
}
