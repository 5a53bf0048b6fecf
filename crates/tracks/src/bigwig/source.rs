//! Feeds the spooled values to the bigWig encoder.

use std::fs::File;
use std::io;

use bigtools::{BBIDataProcessor, BBIDataSource, BBIProcessError, ProcessDataError, Value};
use cistron_genome::coord::ContigName;
use tokio::runtime::Runtime;

use super::spool;
use crate::runs::Run;

/// A contig with at least one value.
pub(super) struct Entry {
    pub name: ContigName,
    /// Index of its first base in the spool.
    pub first: u64,
    /// Number of its bases, at most `u32::MAX`.
    pub length: u64,
}

/// The values of `entries`, in this order. The encoder numbers contigs as they come, so
/// the order must be that of the file's list.
pub(super) struct Source {
    entries: Vec<Entry>,
    spool: File,
}

impl Source {
    pub fn new(entries: Vec<Entry>, spool: File) -> Self {
        Self { entries, spool }
    }

    /// Name and length of every contig.
    pub fn sizes(&self) -> impl Iterator<Item = (String, u32)> {
        self.entries
            .iter()
            .map(|entry| (entry.name.to_string(), as_u32(entry.length)))
    }
}

impl BBIDataSource for Source {
    type Value = Value;
    type Error = io::Error;

    fn process_to_bbi<
        P: BBIDataProcessor<Value = Value> + Send + 'static,
        StartProcessing: FnMut(String) -> Result<P, ProcessDataError>,
        Advance: FnMut(P),
    >(
        &mut self,
        runtime: &Runtime,
        start_processing: &mut StartProcessing,
        advance: &mut Advance,
    ) -> Result<(), BBIProcessError<io::Error>> {
        for entry in &self.entries {
            let mut runs = spool::runs(&self.spool, entry.first, entry.length)?;
            let mut processor = start_processing(entry.name.to_string())?;
            runtime.block_on(async {
                let mut next = runs.next().transpose()?.map(value);
                while let Some(current) = next {
                    next = runs.next().transpose()?.map(value);
                    processor.do_process(current, next.as_ref()).await?;
                }
                Ok::<_, BBIProcessError<io::Error>>(())
            })?;
            advance(processor);
        }
        Ok(())
    }
}

fn value(run: Run) -> Value {
    Value {
        start: as_u32(run.start),
        end: as_u32(run.end),
        value: run.value,
    }
}

/// Lengths were checked against `u32::MAX` when the writer was made.
fn as_u32(coordinate: u64) -> u32 {
    u32::try_from(coordinate).unwrap_or(u32::MAX)
}
