//! `env.json`: what a run ran on.

use cistron_kernels::runtime;
use serde::Serialize;
use tch::Device;

/// Versions and devices.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Version of cistron.
    pub tool_version: &'static str,
    /// Version of libtorch.
    pub libtorch: &'static str,
    /// CUDA version of libtorch, where CUDA is usable.
    pub cuda: Option<String>,
    /// Number of usable CUDA devices.
    pub cuda_devices: i64,
    /// NVIDIA driver and GPU, as the system tells them.
    pub driver: Option<String>,
    /// Device of the run, of rank 0 where there are several.
    pub device: String,
    /// Number of data-parallel ranks.
    pub ranks: u64,
    /// Threads of libtorch within an operator.
    pub threads: i64,
    /// Processors the system offers.
    pub processors: usize,
    /// Operating system and architecture.
    pub system: String,
}

impl Environment {
    /// As it is now, for a run of `ranks` ranks on `device`.
    pub fn now(device: Device, ranks: u64) -> Self {
        let (cuda, cuda_devices, driver) = if device.is_cuda() {
            let version = runtime::cuda_version().map(|(major, minor)| format!("{major}.{minor}"));
            (version, runtime::cuda_devices(), driver())
        } else {
            (None, 0, None)
        };
        Self {
            tool_version: env!("CARGO_PKG_VERSION"),
            libtorch: runtime::torch_version(),
            cuda,
            cuda_devices,
            driver,
            device: match device {
                Device::Cuda(index) => format!("cuda:{index}"),
                _ => "cpu".into(),
            },
            ranks,
            threads: i64::from(tch::get_num_threads()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        }
    }
}

/// The first line of the driver's version file.
fn driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}
