//! From a seat to a group.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use tch::Device;

use super::nccl::Nccl;
use super::{Alone, Collective, Seat};
use crate::TrainError;
use crate::launch::LAUNCHED;

/// How long ranks wait for each other before they give up, unless `CISTRON_RANK_TIMEOUT`
/// says otherwise, in seconds: longer than an evaluation on rank 0 takes.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Joins the ranks of `seat`, this one on `device`; the group of one where there is none.
///
/// # Errors
///
/// The others cannot be reached, or this build has no engine for the device.
pub fn join(seat: Option<&Seat>, device: Device) -> Result<Arc<dyn Collective>, TrainError> {
    if std::env::var_os(LAUNCHED).is_some() {
        end_with_launcher();
    }
    let Some(seat) = seat else {
        return Ok(Alone::group());
    };
    if device.is_cuda() {
        return Ok(Arc::new(Nccl::join(seat, device, timeout()?)?));
    }
    if !seat.by_mpi {
        return Err(TrainError::Ranks(
            "ranks on CPUs work together over MPI: start them with mpirun, or use GPUs".into(),
        ));
    }
    over_mpi(seat)
}

#[cfg(feature = "mpi")]
fn over_mpi(seat: &Seat) -> Result<Arc<dyn Collective>, TrainError> {
    Ok(Arc::new(super::mpi::Mpi::join(seat)?))
}

#[cfg(not(feature = "mpi"))]
fn over_mpi(seat: &Seat) -> Result<Arc<dyn Collective>, TrainError> {
    Err(TrainError::Ranks(format!(
        "mpirun has started {} ranks, but this build has no MPI: build it with --features mpi, \
         or train in one process",
        seat.world
    )))
}

/// The time after which ranks give each other up.
fn timeout() -> Result<Duration, TrainError> {
    const NAME: &str = "CISTRON_RANK_TIMEOUT";
    match std::env::var(NAME) {
        Err(_) => Ok(TIMEOUT),
        Ok(text) => match text.parse() {
            Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
            _ => Err(TrainError::Ranks(format!(
                "{NAME}={text}: expected seconds, 1 or more"
            ))),
        },
    }
}

/// Ends this process when the launcher, which holds the other end of its standard input, dies.
fn end_with_launcher() {
    std::thread::spawn(|| {
        let mut end = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut end);
        tracing::error!("the process that started the ranks has ended, so this rank stops");
        signal_hook::low_level::exit(1);
    });
}
