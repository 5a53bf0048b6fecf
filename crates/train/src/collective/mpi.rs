//! Ranks on CPUs, over the system's MPI.
//!
//! All calls of MPI come from one thread: exchanges go on while the backward pass does, and
//! MPI need not know of threads.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mpi::collective::SystemOperation;
use mpi::datatype::Equivalence;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

use super::{Collective, Exchange, Pending, Seat};
use crate::TrainError;

/// The ranks that `mpirun` has started.
#[derive(Debug)]
pub struct Mpi {
    rank: u64,
    world: u64,
    requests: Mutex<Sender<Request>>,
}

/// What the thread of MPI is asked for, and where it answers.
enum Request {
    Exchange(Exchange, Tensor, Sender<Result<(), String>>),
    Finish(Sender<Result<(), String>>),
}

impl Mpi {
    /// Starts MPI.
    ///
    /// # Errors
    ///
    /// MPI is running already, or counts other ranks than the environment says.
    pub fn join(seat: &Seat) -> Result<Self, TrainError> {
        let (send, requests) = channel();
        let (ready, started) = channel();
        thread::spawn(move || serve(&requests, &ready));
        let (rank, world) = started
            .recv()
            .ok()
            .flatten()
            .ok_or_else(|| TrainError::Ranks("MPI does not start".into()))?;
        if (rank, world) != (seat.rank, seat.world) {
            return Err(TrainError::Ranks(format!(
                "MPI says rank {rank} of {world}, but the environment rank {} of {}: build \
                 cistron with the MPI whose mpirun starts it",
                seat.rank, seat.world
            )));
        }
        Ok(Self {
            rank,
            world,
            requests: Mutex::new(send),
        })
    }

    fn ask(
        &self,
        request: impl FnOnce(Sender<Result<(), String>>) -> Request,
    ) -> Result<Pending, TrainError> {
        let rank = self.rank;
        let fail = move |why: String| TrainError::Ranks(format!("rank {rank}: MPI: {why}"));
        let (send, answer) = channel();
        self.requests
            .lock()
            .ok()
            .and_then(|requests| requests.send(request(send)).ok())
            .ok_or_else(|| fail("has ended".into()))?;
        Ok(Pending::new(move || {
            let answer = answer.recv().unwrap_or_else(|_| Err("has ended".into()));
            answer.map_err(fail)
        }))
    }
}

impl Collective for Mpi {
    fn rank(&self) -> u64 {
        self.rank
    }

    fn world(&self) -> u64 {
        self.world
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn start(&self, exchange: Exchange, tensor: &Tensor) -> Result<Pending, TrainError> {
        let tensor = tensor.shallow_clone();
        self.ask(|answer| Request::Exchange(exchange, tensor, answer))
    }

    fn finish(&self) -> Result<(), TrainError> {
        self.ask(Request::Finish)?.wait()
    }
}

/// The thread of MPI.
fn serve(requests: &Receiver<Request>, ready: &Sender<Option<(u64, u64)>>) {
    let Some((universe, _)) = mpi::initialize_with_threading(mpi::Threading::Funneled) else {
        let _ = ready.send(None);
        return;
    };
    let world = universe.world();
    let _ = ready.send(Some((world.rank() as u64, world.size() as u64)));
    while let Ok(request) = requests.recv() {
        match request {
            Request::Exchange(exchange, tensor, answer) => {
                let result = match tensor.kind() {
                    Kind::Float => run::<f32>(&world, exchange, &tensor),
                    Kind::Double => run::<f64>(&world, exchange, &tensor),
                    kind => Err(format!("values of kind {kind:?} are not exchanged")),
                };
                let _ = answer.send(result);
            }
            Request::Finish(answer) => {
                world.barrier();
                drop(universe);
                let _ = answer.send(Ok(()));
                return;
            }
        }
    }
    // The run has failed here. The others do not know, and ending MPI would wait for them:
    // mpirun sees this process end without it, and stops them.
    std::mem::forget(universe);
}

fn run<T>(world: &SimpleCommunicator, exchange: Exchange, tensor: &Tensor) -> Result<(), String>
where
    T: Element + Equivalence + Copy + Default,
    Vec<T>: TryFrom<Tensor, Error = tch::TchError>,
{
    let refused = |error: tch::TchError| error.to_string();
    let count = tensor.size1().map_err(refused)?;
    let part = count / i64::from(world.size());
    let own = tensor.narrow(0, part * i64::from(world.rank()), part);
    let values = |tensor: &Tensor| Vec::<T>::try_from(tensor.shallow_clone()).map_err(refused);
    let room = |count: i64| vec![T::default(); count as usize];
    let (mut target, result) = match exchange {
        Exchange::Sum => {
            let mut sums = room(count);
            let mine = values(tensor)?;
            world.all_reduce_into(&mine[..], &mut sums[..], SystemOperation::sum());
            (tensor.shallow_clone(), sums)
        }
        Exchange::SumParts => {
            let mut sums = room(part);
            let mine = values(tensor)?;
            world.reduce_scatter_block_into(&mine[..], &mut sums[..], SystemOperation::sum());
            (own, sums)
        }
        Exchange::Gather => {
            let mut all = room(count);
            let mine = values(&own)?;
            world.all_gather_into(&mine[..], &mut all[..]);
            (tensor.shallow_clone(), all)
        }
    };
    target.copy_(&Tensor::from_slice(&result));
    Ok(())
}
