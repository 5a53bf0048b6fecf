//! Feeds the spooled items to the bigBed encoder.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use bigtools::{BBIDataProcessor, BBIDataSource, BBIProcessError, BedEntry, ProcessDataError};
use cistron_genome::coord::ContigName;
use tokio::runtime::Runtime;

/// A contig with at least one item.
pub(super) struct Entry {
    pub name: ContigName,
    pub length: u32,
    /// Where its lines lie in the spool.
    pub bytes: Range<u64>,
}

/// The items of `entries`, in this order.
pub(super) struct Source {
    entries: Vec<Entry>,
    spool: File,
}

impl Source {
    pub fn new(entries: Vec<Entry>, spool: File) -> Self {
        Self { entries, spool }
    }
}

impl BBIDataSource for Source {
    type Value = BedEntry;
    type Error = io::Error;

    fn process_to_bbi<
        P: BBIDataProcessor<Value = BedEntry> + Send + 'static,
        StartProcessing: FnMut(String) -> Result<P, ProcessDataError>,
        Advance: FnMut(P),
    >(
        &mut self,
        runtime: &Runtime,
        start_processing: &mut StartProcessing,
        advance: &mut Advance,
    ) -> Result<(), BBIProcessError<io::Error>> {
        for entry in &self.entries {
            let mut items = items(&self.spool, &entry.bytes)?;
            let mut processor = start_processing(entry.name.to_string())?;
            runtime.block_on(async {
                let mut next = items.next().transpose()?;
                while let Some(current) = next {
                    next = items.next().transpose()?;
                    processor.do_process(current, next.as_ref()).await?;
                }
                Ok::<_, BBIProcessError<io::Error>>(())
            })?;
            advance(processor);
        }
        Ok(())
    }
}

fn items(
    spool: &File,
    bytes: &Range<u64>,
) -> io::Result<impl Iterator<Item = io::Result<BedEntry>> + Send + use<>> {
    let mut file = spool.try_clone()?;
    file.seek(SeekFrom::Start(bytes.start))?;
    let lines = BufReader::new(file).take(bytes.end - bytes.start).lines();
    Ok(lines.map(|line| line.and_then(|line| item(&line))))
}

fn item(line: &str) -> io::Result<BedEntry> {
    let mut parts = line.splitn(3, '\t');
    let mut number = || parts.next().and_then(|part| part.parse().ok());
    match (number(), number(), parts.next()) {
        (Some(start), Some(end), Some(rest)) => Ok(BedEntry {
            start,
            end,
            rest: rest.to_owned(),
        }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
