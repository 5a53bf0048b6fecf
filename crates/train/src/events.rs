//! TensorBoard event files.
//!
//! A file is a sequence of records: length (u64), masked CRC-32C of the length, an
//! `Event` protocol buffer, masked CRC-32C of that; integers little-endian. Python's
//! `tensorboard` is the reader that must agree.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::TrainError;

/// Writes scalars into one event file, each call through to the system.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Starts a file in `folder` whose first step is `step`; readers forget what earlier
    /// files of the folder say of that step and those after it.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self, TrainError> {
        let now = now();
        let mut number = 0;
        let (path, file) = loop {
            let name = format!(
                "events.out.tfevents.{}.{}.{}.{number}",
                now as u64,
                hostname(),
                std::process::id()
            );
            let path = folder.join(name);
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(TrainError::io(&path, error)),
            }
        };
        let mut writer = Self { path, file };
        writer.write(&event(now, 0, &bytes_field(3, b"brain.Event:2")))?;
        // SessionLog { status: START }
        writer.write(&event(now, step, &bytes_field(7, &varint_field(1, 1))))?;
        Ok(writer)
    }

    /// Writes values of one step under their tags.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<(), TrainError> {
        let summary: Vec<u8> = scalars
            .iter()
            .flat_map(|(tag, value)| {
                let mut message = bytes_field(1, tag.as_bytes());
                message.push(2 << 3 | 5);
                message.extend((*value as f32).to_le_bytes());
                bytes_field(1, &message)
            })
            .collect();
        self.write(&event(now(), step, &bytes_field(5, &summary)))
    }

    fn write(&mut self, event: &[u8]) -> Result<(), TrainError> {
        self.file
            .write_all(&record(event))
            .map_err(|error| TrainError::io(&self.path, error))
    }
}

/// Frames the bytes of one event.
fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(event);
    record.extend(masked_crc(event).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that a CRC of data that holds CRCs stays good.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// `Event { wall_time = 1, step = 2, … }` with one further encoded field.
fn event(wall_time: f64, step: u64, field: &[u8]) -> Vec<u8> {
    let mut message = vec![1 << 3 | 1];
    message.extend(wall_time.to_le_bytes());
    message.extend(varint_field(2, step));
    message.extend(field);
    message
}

fn varint_field(number: u8, value: u64) -> Vec<u8> {
    let mut field = vec![number << 3];
    varint(value, &mut field);
    field
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut field);
    field.extend(bytes);
    field
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    if name.is_empty() {
        "localhost".into()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published check value of CRC-32C, and its mask by hand.
    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn varints_are_seven_bits_a_byte() {
        let encoded = |value| {
            let mut out = Vec::new();
            varint(value, &mut out);
            out
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [127]);
        assert_eq!(encoded(300), [0xac, 0x02]);
        assert_eq!(encoded(u64::MAX).len(), 10);
    }

    #[test]
    fn files_are_a_version_a_session_and_scalars() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 3).unwrap();
        writer
            .scalars(300, &[("loss".into(), 1.5), ("lr".into(), 0.25)])
            .unwrap();
        EventWriter::create(folder.path(), 4).unwrap();
        let bytes = std::fs::read(&writer.path).unwrap();
        let mut events = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let event = &rest[12..12 + length];
            assert_eq!(record(event), rest[..16 + length]);
            events.push(event.to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(events.len(), 3);
        assert_eq!(events[0][9..], *b"\x10\x00\x1a\x0dbrain.Event:2");
        assert_eq!(events[1][9..], [0x10, 3, 0x3a, 2, 0x08, 1]);
        let loss = b"\x0a\x0b\x0a\x04loss\x15\x00\x00\xc0\x3f";
        let lr = b"\x0a\x09\x0a\x02lr\x15\x00\x00\x80\x3e";
        let mut expected = vec![0x10, 0xac, 0x02, 0x2a, (loss.len() + lr.len()) as u8];
        expected.extend(loss);
        expected.extend(lr);
        assert_eq!(events[2][9..], expected);
    }
}
