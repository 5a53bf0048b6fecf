//! Options of every command.

use std::io::IsTerminal;

use anyhow::Context;
use cistron_kernels::runtime::{self, DeviceError};
use clap::{Args, ValueEnum};
use tch::Device;

use crate::failure::Usage;

/// How messages look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where models run: auto, cpu, cuda or cuda:N
    #[arg(
        long,
        global = true,
        default_value = "auto",
        value_name = "DEVICE",
        help_heading = "Global options"
    )]
    pub device: String,
    /// Threads of the CPU [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Global options")]
    pub threads: Option<u16>,
    /// Say less: warnings once, errors twice
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub quiet: u8,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Global options")]
    pub verbose: u8,
    /// How messages on standard error look
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        help_heading = "Global options"
    )]
    pub log_format: LogFormat,
}

impl Global {
    /// Sends messages to standard error.
    pub fn start_logging(&self) {
        let level = match (self.quiet, self.verbose) {
            (0, 0) => "info",
            (0, 1) => "debug",
            (0, _) => "trace",
            (1, _) => "warn",
            _ => "error",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("CISTRON_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Json => builder.json().with_target(false).init(),
            LogFormat::Text => builder
                .with_target(false)
                .without_time()
                .with_ansi(std::io::stderr().is_terminal())
                .init(),
        }
    }

    /// Whether a progress bar may be drawn.
    pub fn shows_bar(&self) -> bool {
        self.quiet == 0 && self.log_format == LogFormat::Text && std::io::stderr().is_terminal()
    }

    /// Threads to use.
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            usize::from,
        )
    }

    /// Resolves `--device` and sets libtorch's threads.
    pub fn device(&self) -> anyhow::Result<Device> {
        let device = match runtime::resolve_device(&self.device) {
            Err(error @ DeviceError::Name(_)) => {
                return Err(Usage(format!("--device: {error}")).into());
            }
            device => device.context("--device")?,
        };
        tch::set_num_threads(self.threads() as i32);
        Ok(device)
    }

    /// Sets the threads of compression and of everything else outside libtorch.
    pub fn start_pool(&self) {
        // An error means that the pool has been started before, with the same number.
        let _started = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads())
            .build_global();
    }
}
