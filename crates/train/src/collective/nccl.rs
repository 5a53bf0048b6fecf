//! Ranks on GPUs.

use std::sync::Mutex;
use std::time::Duration;

use cistron_kernels::nccl::{Group, Meeting};
use tch::{Device, Tensor};

use super::watch::Watch;
use super::{Collective, Exchange, Pending, Seat};
use crate::TrainError;

/// Ranks that meet at a TCP store and exchange over NCCL.
#[derive(Debug)]
pub struct Nccl {
    group: Group,
    rank: u64,
    world: u64,
    device: Device,
    watch: Mutex<Option<Watch>>,
}

/// Key of the address where rank 0 watches.
const WATCH: &str = "watch";
/// How long rank 0 waits for the others at the end.
const GOODBYE: Duration = Duration::from_secs(10);

impl Nccl {
    /// Meets the other ranks; `device` is the GPU of this one. From then on each rank ends
    /// when another does, or has not been heard of for `timeout`.
    ///
    /// # Errors
    ///
    /// The others do not come within `timeout`, or the build has no NCCL.
    pub fn join(seat: &Seat, device: Device, timeout: Duration) -> Result<Self, TrainError> {
        let Device::Cuda(index) = device else {
            return Err(TrainError::Ranks("NCCL needs a GPU for each rank".into()));
        };
        let fail = |error: cistron_kernels::nccl::NcclError| {
            TrainError::Ranks(format!(
                "rank {} of {} at {}:{}: {error}",
                seat.rank, seat.world, seat.host, seat.port
            ))
        };
        let group = Group::join(&Meeting {
            host: seat.host.clone(),
            port: seat.port,
            serve: seat.rank == 0 && !seat.store_is_open,
            prefix: format!("cistron/{}", seat.attempt),
            rank: seat.rank,
            world: seat.world,
            device: index,
            timeout,
        })
        .map_err(fail)?;
        let watch = if seat.rank == 0 {
            let (watch, port) = Watch::serve(seat.world, timeout)?;
            group.put(WATCH, &port.to_string()).map_err(fail)?;
            watch
        } else {
            let port = group.get(WATCH).map_err(fail)?;
            Watch::attend(&format!("{}:{port}", seat.host), seat.rank, timeout)?
        };
        Ok(Self {
            group,
            rank: seat.rank,
            world: seat.world,
            device,
            watch: Mutex::new(Some(watch)),
        })
    }

    fn failed(&self, error: &cistron_kernels::nccl::NcclError) -> TrainError {
        TrainError::Ranks(format!("rank {}: NCCL: {error}", self.rank))
    }
}

impl Collective for Nccl {
    fn rank(&self) -> u64 {
        self.rank
    }

    fn world(&self) -> u64 {
        self.world
    }

    fn device(&self) -> Device {
        self.device
    }

    fn start(&self, exchange: Exchange, tensor: &Tensor) -> Result<Pending, TrainError> {
        let pending = self.group.start(exchange, tensor);
        let pending = pending.map_err(|error| self.failed(&error))?;
        let rank = self.rank;
        Ok(Pending::new(move || {
            pending
                .wait()
                .map_err(|error| TrainError::Ranks(format!("rank {rank}: NCCL: {error}")))
        }))
    }

    fn finish(&self) -> Result<(), TrainError> {
        self.sum(&mut [0.0])?;
        let watch = self.watch.lock().map(|mut watch| watch.take());
        if let Ok(Some(watch)) = watch {
            // The store is rank 0's: it goes last.
            if self.rank == 0 {
                watch.wait_for(self.world - 1, GOODBYE);
            }
            watch.leave();
        }
        Ok(())
    }
}
