//! `cistron doctor`.

use cistron_kernels::{runtime, ssm};
use clap::Args;
use tch::{Device, Kind, Tensor};

use crate::global::Global;
use crate::output;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cistron doctor

Exit status 1 when something that cistron needs does not work; an absent GPU is no problem.")]
pub struct Doctor {}

pub fn run(global: &Global, _: Doctor) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut problems = Vec::new();
    problems.extend(global.device().err().map(|error| format!("{error:#}")));
    let mut text = format!(
        "cistron\t{}\nlibtorch\t{} (found at {})\nsystem\t{} {}\nthreads\t{} of {cores} cores\n",
        env!("CARGO_PKG_VERSION"),
        runtime::torch_version(),
        runtime::torch_folder().unwrap_or_else(|| "unknown".into()),
        std::env::consts::OS,
        std::env::consts::ARCH,
        global.threads(),
    );
    let tried = try_device(Device::Cpu);
    text += &format!("cpu\t{}\n", said(&tried));
    problems.extend(tried.err().map(|error| {
        format!("the CPU path fails ({error}): reinstall libtorch with `make libtorch`")
    }));
    match runtime::cuda_problem() {
        Some(reason) => {
            text += &format!("cuda\tnot usable: {reason}\n");
            text += match reason.as_str() {
                reason if reason.contains("driver") => {
                    "\tmodels run on the CPU; for a GPU install the NVIDIA driver\n"
                }
                reason if reason.contains("cannot be loaded") => {
                    "\tthis libtorch has no CUDA half, or its libraries are not found: add the nvidia/*/lib \
                     folders beside torch to LD_LIBRARY_PATH\n"
                }
                _ => {
                    "\tcheck that nvidia-smi lists a GPU and that CUDA_VISIBLE_DEVICES does not hide it\n"
                }
            };
        }
        None => {
            let version = runtime::cuda_version().map_or_else(
                || "unknown".into(),
                |(major, minor)| format!("{major}.{minor}"),
            );
            text += &format!("cuda\t{version}, {} device(s)\n", runtime::cuda_devices());
            for i in 0..runtime::cuda_devices() as usize {
                let tried = try_device(Device::Cuda(i));
                text += &format!("cuda:{i}\t{}\n", said(&tried));
                problems.extend(tried.err().map(|error| {
                    format!("cuda:{i} fails ({error}): check that the driver is new enough for this CUDA, or use --device cpu")
                }));
            }
        }
    }
    text += &format!("scan kernels\t{}\n", scan_kernels());
    let temporary = std::env::temp_dir();
    let writable = tempfile::tempfile_in(&temporary);
    text += &format!("temporary files\t{}\n", temporary.display());
    problems.extend(writable.err().map(|error| {
        format!(
            "{}: cannot be written to ({error}): set TMPDIR to a folder that can",
            temporary.display()
        )
    }));
    for problem in &problems {
        text += &format!("PROBLEM\t{problem}\n");
    }
    output::print(&text)?;
    if problems.is_empty() {
        Ok(())
    } else {
        anyhow::bail!("{} problem(s)", problems.len())
    }
}

/// Sizes with a CUDA scan, as `headdim x d_state`, by kind of block.
fn scan_kernels() -> String {
    if !runtime::kernels_built() {
        return "none: built without nvcc; GPUs use plain operators, slower".into();
    }
    if runtime::cuda_devices() == 0 {
        return "built; no GPU to run them".into();
    }
    let sizes = ssm::sizes();
    if sizes.is_empty() {
        return "none fit this GPU's shared memory; it uses plain operators, slower".into();
    }
    let list = |turns: bool, mimo: bool| {
        let fits = |size: &&ssm::Size| size.turns == turns && (size.rank > 1) == mimo;
        let said = |size: &ssm::Size| match size.rank {
            1 => format!("{}x{}", size.head_dim, size.state),
            rank => format!("{}x{} rank {rank}", size.head_dim, size.state),
        };
        sizes
            .iter()
            .filter(fits)
            .map(said)
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "headdim x d_state in bf16: Mamba-2 {}; Mamba-3 SISO {}; Mamba-3 MIMO {}; other sizes use \
         plain operators, slower",
        list(false, false),
        list(true, false),
        list(true, true)
    )
}

fn said(tried: &Result<(), String>) -> &str {
    tried.as_ref().map_or_else(String::as_str, |()| "works")
}

/// A small product on the device, with a known result.
fn try_device(device: Device) -> Result<(), String> {
    let ones = Tensor::f_ones([64, 64], (Kind::Float, device)).map_err(|e| e.to_string())?;
    let sum = ones
        .f_matmul(&ones)
        .and_then(|product| product.f_sum(Kind::Double));
    match sum.map(|sum| sum.double_value(&[])) {
        Ok(sum) if (sum - 64.0 * 64.0 * 64.0).abs() < 1e-6 => Ok(()),
        Ok(sum) => Err(format!("a product of ones sums to {sum} instead of 262144")),
        Err(error) => Err(error
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()),
    }
}
