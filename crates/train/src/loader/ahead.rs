//! Batches that are read before they are asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tch::Device;

use super::rows::Rows;
use crate::TrainError;
use crate::batch::HostBatch;
use crate::sampler::Place;

type Reading = (Place, JoinHandle<Result<HostBatch, TrainError>>);

/// Reads the batches that follow the one asked for, each on a thread of its own.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    batches: usize,
    queue: Mutex<VecDeque<Reading>>,
}

impl Ahead {
    /// Keeps up to `batches` batches under way.
    pub fn new(batches: usize) -> Self {
        Self {
            batches,
            queue: Mutex::default(),
        }
    }

    /// The batch at `place`: what has been read ahead, when it is that, else read now.
    pub fn batch(
        &self,
        rows: &Arc<Rows>,
        place: Place,
        device: Device,
    ) -> Result<HostBatch, TrainError> {
        if self.batches == 0 {
            return rows.read(place);
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.front().is_none_or(|(found, _)| *found != place) {
            queue.clear();
        }
        let found = queue.pop_front();
        let mut next = queue
            .back()
            .map_or_else(|| place.next(), |(last, _)| last.next());
        while queue.len() < self.batches {
            let (rows, place) = (Arc::clone(rows), next);
            let read = move || Ok(rows.read(place)?.pinned(device));
            let thread = std::thread::Builder::new().name("loader".into());
            // Without a thread the batch is read when it is asked for.
            let Ok(handle) = thread.spawn(read) else {
                break;
            };
            queue.push_back((place, handle));
            next = place.next();
        }
        match found.map(|(_, handle)| handle.join()) {
            Some(Ok(batch)) => batch,
            _ => rows.read(place),
        }
    }
}
