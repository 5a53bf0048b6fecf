//! What data-parallel ranks have to agree on.
//!
//! | engine | ranks are started by | exchange |
//! |---|---|---|
//! | [`Alone`] | nobody | none |
//! | [`nccl`] | `torchrun`, `mpirun` or [`crate::launch`], a GPU each | libtorch's NCCL process group |
//! | `mpi` | `mpirun`, on CPUs; the feature `mpi` | the system's MPI |

use std::fmt::Debug;
use std::sync::Arc;

pub use cistron_kernels::nccl::Exchange;
use tch::{Device, Tensor};

use crate::TrainError;

pub mod join;
#[cfg(feature = "mpi")]
pub mod mpi;
pub mod nccl;
pub mod seat;
pub mod watch;

pub use join::join;
pub use seat::Seat;

/// A group of ranks that train one model, each on its own part of every batch.
///
/// All ranks call the same functions in the same order, from any one thread at a time.
pub trait Collective: Debug + Send + Sync {
    /// Number of this rank, from 0. Rank 0 alone writes the run folder.
    fn rank(&self) -> u64;

    /// Number of ranks.
    fn world(&self) -> u64;

    /// Where tensors that are exchanged lie.
    fn device(&self) -> Device;

    /// Starts an exchange of a flat tensor, in place, in order with what is queued on its
    /// device. The parts of a rank need a size that the number of ranks divides.
    ///
    /// # Errors
    ///
    /// The other ranks cannot be reached.
    fn start(&self, exchange: Exchange, tensor: &Tensor) -> Result<Pending, TrainError>;

    /// Says that this rank is done, and waits until all are.
    ///
    /// # Errors
    ///
    /// The other ranks cannot be reached.
    fn finish(&self) -> Result<(), TrainError>;

    /// Replaces each value by its sum over all ranks; waits for it.
    ///
    /// # Errors
    ///
    /// The other ranks cannot be reached.
    fn sum(&self, values: &mut [f64]) -> Result<(), TrainError> {
        if self.world() == 1 {
            return Ok(());
        }
        let tensor = Tensor::from_slice(values).to_device(self.device());
        self.start(Exchange::Sum, &tensor)?.wait()?;
        let sums = Vec::<f64>::try_from(&tensor).expect("a vector of doubles");
        values.copy_from_slice(&sums);
        Ok(())
    }

    /// The text that rank 0 has, on all ranks.
    ///
    /// # Errors
    ///
    /// The other ranks cannot be reached.
    fn share(&self, text: &str) -> Result<String, TrainError> {
        let mine = self.rank() == 0;
        let mut length = [if mine { text.len() as f64 } else { 0.0 }];
        self.sum(&mut length)?;
        let mut bytes = vec![0.0; length[0] as usize];
        if mine {
            for (value, byte) in bytes.iter_mut().zip(text.bytes()) {
                *value = f64::from(byte);
            }
        }
        self.sum(&mut bytes)?;
        let bytes: Vec<u8> = bytes.into_iter().map(|byte| byte as u8).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// An exchange that is under way.
#[must_use = "the result is there after `wait`"]
pub struct Pending(Box<dyn FnOnce() -> Result<(), TrainError> + Send>);

impl Pending {
    /// An exchange whose result is there after `wait`.
    pub fn new(wait: impl FnOnce() -> Result<(), TrainError> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// One that was over at once.
    pub fn done() -> Self {
        Self::new(|| Ok(()))
    }

    /// Waits; on a GPU what is queued from now on does, and not the host.
    ///
    /// # Errors
    ///
    /// The exchange has failed.
    pub fn wait(self) -> Result<(), TrainError> {
        (self.0)()
    }
}

impl Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pending")
    }
}

/// The group of one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Alone {
    /// The same as a group.
    pub fn group() -> Arc<dyn Collective> {
        Arc::new(Self)
    }
}

impl Collective for Alone {
    fn rank(&self) -> u64 {
        0
    }

    fn world(&self) -> u64 {
        1
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn start(&self, _: Exchange, _: &Tensor) -> Result<Pending, TrainError> {
        Ok(Pending::done())
    }

    fn finish(&self) -> Result<(), TrainError> {
        Ok(())
    }
}
