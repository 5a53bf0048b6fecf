//! What a profile says of a GPU: how much of the time it worked, and how much of the exchange
//! between ranks ran beside other work.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::BenchError;

/// Shares of a stretch of training steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    /// Seconds from the first kernel to the end of the last.
    pub seconds: f64,
    /// Seconds of these in which a kernel or a copy ran.
    pub busy_seconds: f64,
    /// Seconds in which an exchange ran (NCCL's kernels).
    pub exchange_seconds: f64,
    /// Seconds of these in which other kernels ran, too.
    pub hidden_seconds: f64,
}

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    name: String,
    /// Microseconds.
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
}

impl Busy {
    /// Of a trace in Chrome's format; none without work on a GPU.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, BenchError> {
        let problem = |error: String| BenchError::Setting(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        let trace: Trace =
            serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
        let on_gpu =
            |event: &&Event| ["kernel", "gpu_memcpy", "gpu_memset"].contains(&event.cat.as_str());
        let (exchange, work): (Vec<&Event>, Vec<&Event>) = trace
            .events
            .iter()
            .filter(on_gpu)
            .partition(|event| event.name.starts_with("nccl"));
        let spans =
            |events: &[&Event]| union(events.iter().map(|e| (e.ts, e.ts + e.dur)).collect());
        let (exchange, work) = (spans(&exchange), spans(&work));
        let all = union([exchange.as_slice(), &work].concat());
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            return Ok(None);
        };
        let total = |spans: &[Span]| 1e-6 * spans.iter().map(|(a, b)| b - a).sum::<f64>();
        let (exchanged, worked, busy) = (total(&exchange), total(&work), total(&all));
        Ok(Some(Self {
            seconds: 1e-6 * (last.1 - first.0),
            busy_seconds: busy,
            exchange_seconds: exchanged,
            hidden_seconds: exchanged + worked - busy,
        }))
    }
}

/// Begin and end.
type Span = (f64, f64);

/// Spans without what they have in common, in order.
fn union(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for (begin, end) in spans {
        match joined.last_mut() {
            Some(last) if begin <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((begin, end)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_at_once_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let text = r#"{"schemaVersion": 1, "traceEvents": [
            {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 900},
            {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 100, "dur": 100},
            {"ph": "X", "cat": "kernel", "name": "scan", "ts": 150, "dur": 100},
            {"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "ts": 200, "dur": 100},
            {"ph": "X", "cat": "gpu_memcpy", "name": "copy", "ts": 400, "dur": 100},
            {"ph": "M", "name": "process_name", "args": {"name": "python"}}]}"#;
        std::fs::write(&path, text).unwrap();
        let busy = Busy::read(&path).unwrap().unwrap();
        let microseconds = [
            busy.seconds,
            busy.busy_seconds,
            busy.exchange_seconds,
            busy.hidden_seconds,
        ]
        .map(|seconds| (1e6 * seconds).round());
        assert_eq!(microseconds, [400.0, 300.0, 100.0, 50.0]);
        std::fs::write(&path, r#"{"traceEvents": []}"#).unwrap();
        assert_eq!(Busy::read(&path).unwrap(), None);
        std::fs::write(&path, "[").unwrap();
        assert!(Busy::read(&path).is_err());
    }
}
