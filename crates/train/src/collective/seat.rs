//! Which rank a process is, as its starter says in the environment.

use std::collections::BTreeMap;

use tch::{Cuda, Device};

use crate::TrainError;

/// The place of a process among the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Number of this rank, from 0.
    pub rank: u64,
    /// Number of ranks.
    pub world: u64,
    /// Number of this rank on its host.
    pub local_rank: u64,
    /// Number of ranks on its host.
    pub local_world: u64,
    /// Host where ranks meet.
    pub host: String,
    /// Port where ranks meet.
    pub port: u16,
    /// Whether whoever started the ranks has opened the store there.
    pub store_is_open: bool,
    /// What sets this start apart from others at the same store.
    pub attempt: String,
    /// Whether `mpirun` has started the ranks.
    pub by_mpi: bool,
}

/// Port of the store where nothing else is said, as `torchrun` has it.
const PORT: u16 = 29500;

impl Seat {
    /// The seat that the environment names; none where a process is alone.
    ///
    /// `torchrun` and [`crate::launch`] set `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`
    /// and `MASTER_PORT`; Open MPI sets `OMPI_COMM_WORLD_RANK` and its like, MPICH `PMI_RANK`.
    ///
    /// # Errors
    ///
    /// A variable is missing or no number.
    pub fn from_environment() -> Result<Option<Self>, TrainError> {
        Self::from_variables(&std::env::vars().collect())
    }

    fn from_variables(variables: &BTreeMap<String, String>) -> Result<Option<Self>, TrainError> {
        let number = |name: &str| -> Result<Option<u64>, TrainError> {
            let Some(text) = variables.get(name) else {
                return Ok(None);
            };
            let problem = || TrainError::Ranks(format!("{name}={text}: expected a number"));
            text.parse().map(Some).map_err(|_| problem())
        };
        let first = |names: &[&'static str]| -> Result<Option<(&'static str, u64)>, TrainError> {
            for &name in names {
                if let Some(value) = number(name)? {
                    return Ok(Some((name, value)));
                }
            }
            Ok(None)
        };
        let size = first(&["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])?;
        let Some((size_name, world)) = size.filter(|(_, world)| *world > 1) else {
            return Ok(None);
        };
        let by_mpi = size_name != "WORLD_SIZE";
        let names = match size_name {
            "WORLD_SIZE" => ["RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"],
            "PMI_SIZE" => ["PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"],
            _ => [
                "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_LOCAL_RANK",
                "OMPI_COMM_WORLD_LOCAL_SIZE",
            ],
        };
        let rank = number(names[0])?.filter(|rank| *rank < world);
        let rank = rank.ok_or_else(|| {
            TrainError::Ranks(format!(
                "{size_name}={world} is set, but {} is not a number below it; start ranks with \
                 torchrun, mpirun or --devices",
                names[0]
            ))
        })?;
        let port = number("MASTER_PORT")?.map_or(Ok(PORT), u16::try_from);
        let text = |name: &str| variables.get(name).cloned();
        Ok(Some(Self {
            rank,
            world,
            local_rank: number(names[1])?.unwrap_or(rank),
            local_world: number(names[2])?.unwrap_or(world).max(1),
            host: text("MASTER_ADDR").unwrap_or_else(|| "127.0.0.1".into()),
            port: port.map_err(|_| {
                TrainError::Ranks("MASTER_PORT: expected a port below 65536".into())
            })?,
            store_is_open: text("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|text| text == "True"),
            attempt: text("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into()),
            by_mpi,
        }))
    }

    /// The device of this rank: `device` on the CPU, else the GPU of its number on the host,
    /// or the only one where each rank sees its own.
    ///
    /// # Errors
    ///
    /// There are fewer GPUs than ranks.
    pub fn device(&self, device: Device) -> Result<Device, TrainError> {
        if !device.is_cuda() {
            return Ok(device);
        }
        let gpus = Cuda::device_count().max(0) as u64;
        match self.local_rank {
            own if own < gpus => Ok(Device::Cuda(own as usize)),
            _ if gpus == 1 && std::env::var_os("CUDA_VISIBLE_DEVICES").is_some() => {
                Ok(Device::Cuda(0))
            }
            own => Err(TrainError::Ranks(format!(
                "rank {} is number {own} on its host, which has {gpus} GPU(s); start one rank a GPU",
                self.rank
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat(variables: &[(&str, &str)]) -> Result<Option<Seat>, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Seat::from_variables(&variables).map_err(|error| error.to_string())
    }

    #[test]
    fn starters_are_known_by_their_variables() {
        assert_eq!(seat(&[]).unwrap(), None);
        assert_eq!(seat(&[("WORLD_SIZE", "1"), ("RANK", "0")]).unwrap(), None);
        let torchrun = seat(&[
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node1"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
        ]);
        let torchrun = torchrun.unwrap().unwrap();
        assert_eq!(
            (torchrun.rank, torchrun.world, torchrun.local_rank),
            (5, 8, 1)
        );
        assert_eq!((torchrun.host.as_str(), torchrun.port), ("node1", 1234));
        assert!(torchrun.store_is_open && !torchrun.by_mpi);
        let mpirun = seat(&[
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
        ]);
        let mpirun = mpirun.unwrap().unwrap();
        assert_eq!((mpirun.rank, mpirun.local_rank, mpirun.port), (1, 0, PORT));
        assert!(mpirun.by_mpi);
    }

    #[test]
    fn half_a_seat_is_none() {
        let error = seat(&[("WORLD_SIZE", "2")]).unwrap_err();
        assert!(error.contains("RANK"), "{error}");
        let error = seat(&[("WORLD_SIZE", "2"), ("RANK", "2")]).unwrap_err();
        assert!(error.contains("below it"), "{error}");
        let error = seat(&[("WORLD_SIZE", "two")]).unwrap_err();
        assert!(error.starts_with("WORLD_SIZE=two"), "{error}");
    }
}
