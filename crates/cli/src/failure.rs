//! From a result to messages and an exit status.

use std::io::ErrorKind;
use std::process::ExitCode;

use crate::global::Global;

/// A run that ended early, with its exit status: 128 + signal after a checkpoint.
#[derive(Debug)]
pub struct Signalled(pub i32);

impl std::fmt::Display for Signalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            2 => "Ctrl-C",
            15 => "SIGTERM",
            _ => "a signal",
        };
        write!(f, "stopped by {name}")
    }
}

impl std::error::Error for Signalled {}

/// A wrong argument that clap cannot see: exit status 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Says what went wrong, and gives the exit status.
pub fn exit_code(result: anyhow::Result<()>, global: &Global) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return ExitCode::SUCCESS;
    }
    let (status, signal) = match error.downcast_ref::<Signalled>() {
        Some(Signalled(signal)) => (128 + *signal as u8, true),
        None if error.downcast_ref::<Usage>().is_some() => (2, false),
        None => (1, crate::stop::signal().is_some()),
    };
    let status = match crate::stop::signal() {
        Some(signal) if status == 1 => 128 + signal as u8,
        _ => status,
    };
    let message = messages(&error);
    if global.log_format == crate::global::LogFormat::Json {
        tracing::error!("{message}");
    } else if signal {
        eprintln!("cistron: {message}");
    } else {
        eprintln!("error: {message}");
    }
    ExitCode::from(status)
}

/// The chain of causes, each said once.
fn messages(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = match cause.downcast_ref() {
            Some(error) => cistron_genome::system::reason(error),
            None => cause.to_string(),
        };
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    text
}
