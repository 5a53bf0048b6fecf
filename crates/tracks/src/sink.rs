//! An output that remembers its first error instead of returning it.
//!
//! The encoder writes from background tasks which panic when a write fails. It is
//! therefore told that all went well, and the error is looked up when it is done.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// The first error of a [`Sink`], shared with whoever looks it up.
#[derive(Clone, Default)]
pub(crate) struct Outcome(Arc<Mutex<Option<io::Error>>>);

impl Outcome {
    fn set(&self, error: io::Error) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert(error);
    }

    /// The first error, if any.
    pub fn take(&self) -> io::Result<()> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take().map_or(Ok(()), Err)
    }
}

/// Passes writes on until one fails, and then only counts.
pub(crate) struct Sink<W> {
    inner: W,
    outcome: Outcome,
    failed: bool,
    position: u64,
    length: u64,
}

impl<W: Write + Seek> Sink<W> {
    /// An empty `inner`, and the place where its first error will lie.
    pub fn new(inner: W) -> (Self, Outcome) {
        let outcome = Outcome::default();
        let sink = Self {
            inner,
            outcome: outcome.clone(),
            failed: false,
            position: 0,
            length: 0,
        };
        (sink, outcome)
    }

    fn attempt(&mut self, action: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.failed {
            return;
        }
        if let Err(error) = action(&mut self.inner) {
            self.failed = true;
            self.outcome.set(error);
        }
    }
}

impl<W: Write + Seek> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.attempt(|inner| inner.write_all(bytes));
        self.position += bytes.len() as u64;
        self.length = self.length.max(self.position);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(Write::flush);
        Ok(())
    }
}

impl<W: Write + Seek> Seek for Sink<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        let position = self.position;
        self.attempt(|inner| inner.seek(SeekFrom::Start(position)).map(drop));
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Holds `0` bytes more before it is full.
    struct Full(Cursor<Vec<u8>>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1 -= bytes.len();
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn positions_stay_right_after_a_failure() {
        let (mut sink, outcome) = Sink::new(Full(Cursor::new(vec![]), 5));
        sink.write_all(b"abc").unwrap();
        outcome.take().unwrap();
        sink.write_all(b"defg").unwrap();
        assert_eq!(sink.stream_position().unwrap(), 7);
        sink.seek(SeekFrom::Start(1)).unwrap();
        sink.write_all(b"x").unwrap();
        assert_eq!(sink.seek(SeekFrom::End(0)).unwrap(), 7);
        assert_eq!(
            outcome.take().unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        assert_eq!(sink.inner.0.get_ref(), b"abc");
    }

    #[test]
    fn seeks_and_writes_pass_through() {
        let (mut sink, outcome) = Sink::new(Cursor::new(vec![]));
        sink.write_all(b"abcd").unwrap();
        sink.seek(SeekFrom::Start(1)).unwrap();
        sink.write_all(b"X").unwrap();
        sink.seek(SeekFrom::End(0)).unwrap();
        sink.write_all(b"e").unwrap();
        outcome.take().unwrap();
        assert_eq!(sink.inner.get_ref(), b"aXcde");
    }
}
