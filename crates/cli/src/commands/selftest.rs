//! `cistron selftest`.

use std::path::{Path, PathBuf};

use cistron_model::golden;
use cistron_model::lyra::parity;
use cistron_model::mixer::mamba3::parity as mamba3;
use clap::Args;

use crate::global::Global;
use crate::output;

/// The project's own golden files, inside the binary.
const BUNDLED: [(&str, &[u8]); 8] = [
    (
        "hnet_isotropic.safetensors",
        include_bytes!("../../../../tests/golden/hnet_isotropic.safetensors"),
    ),
    (
        "hnet_1stage.safetensors",
        include_bytes!("../../../../tests/golden/hnet_1stage.safetensors"),
    ),
    (
        "hnet_2stage_dnahnet.safetensors",
        include_bytes!("../../../../tests/golden/hnet_2stage_dnahnet.safetensors"),
    ),
    (
        "lyra.safetensors",
        include_bytes!("../../../../tests/golden/lyra.safetensors"),
    ),
    (
        "mamba3_siso_op_states.safetensors",
        include_bytes!("../../../../tests/golden/mamba3_siso_op_states.safetensors"),
    ),
    (
        "mamba3_siso_heavytail_norm_fullrope.safetensors",
        include_bytes!("../../../../tests/golden/mamba3_siso_heavytail_norm_fullrope.safetensors"),
    ),
    (
        "mamba3_mimo_r2_norm.safetensors",
        include_bytes!("../../../../tests/golden/mamba3_mimo_r2_norm.safetensors"),
    ),
    (
        "mamba3_mimo_r4.safetensors",
        include_bytes!("../../../../tests/golden/mamba3_mimo_r4.safetensors"),
    ),
];

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cistron selftest
  cistron selftest --device cuda
  cistron selftest --golden more.safetensors

Runs small models of the reference implementation and prints the largest distance of logits,
boundaries (tokens that differ), losses (absolute) and sampled gradient entries (over the norm of
their tensor). Exit status 1 when a file is beyond 2e-5, 0, 2e-6 and 2e-4. For a Lyra network it
prints the distance of the outputs, over three forms of S4D, and of the gradients, each relative to
its norm, within 1e-5 and 1e-4; so it does for Mamba-3 blocks, over the parallel form, steps and the
matrix, and for the Mamba-3 recurrence with its final states, whole and split.")]
pub struct Selftest {
    /// Golden file; repeatable [default: those inside the binary]
    #[arg(long, value_name = "FILE")]
    golden: Vec<PathBuf>,
}

pub fn run(global: &Global, command: Selftest) -> anyhow::Result<()> {
    let device = global.device()?;
    let folder = tempfile::tempdir()?;
    let mut files = command.golden;
    if files.is_empty() {
        for (name, bytes) in BUNDLED {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes)?;
            files.push(path);
        }
    }
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    output::print("file\tlogits\tboundaries\tlosses\tgradients\tworst gradient\tverdict\n")?;
    let mut failed = Vec::new();
    for path in &files {
        if parity::is_lyra(path)? {
            let lyra = parity::check(path, device)?;
            output::print(&format!(
                "{}\t{:.1e}\t.\t.\t{:.1e}\t{}\t{}\n",
                name(path),
                lyra.outputs,
                lyra.gradients,
                lyra.worst_gradient,
                verdict(lyra.holds())
            ))?;
            if !lyra.holds() {
                failed.push(name(path));
            }
            continue;
        }
        if mamba3::is_mamba3(path)? {
            let block = mamba3::check(path, device)?;
            let gradients = block
                .gradients
                .map_or_else(|| ".".to_owned(), |g| format!("{g:.1e}"));
            output::print(&format!(
                "{}\t{:.1e}\t.\t.\t{gradients}\t{}\t{}\n",
                name(path),
                block.outputs,
                block.worst_gradient,
                verdict(block.holds())
            ))?;
            if !block.holds() {
                failed.push(name(path));
            }
            continue;
        }
        let parity = golden::check(path, device)?;
        output::print(&format!(
            "{}\t{:.1e}\t{}\t{:.1e}\t{:.1e}\t{}\t{}\n",
            name(path),
            parity.logits,
            parity.boundaries,
            parity.losses,
            parity.gradients,
            parity.worst_gradient,
            verdict(parity.holds())
        ))?;
        if !parity.holds() {
            failed.push(name(path));
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "{} beyond the tolerance (logits {:.0e}, boundaries 0, losses {:.0e}, gradients {:.0e}; of \
         Lyra and Mamba-3 outputs {:.0e}, gradients {:.0e}); try --device cpu, and report it with the output of `cistron doctor`",
        failed.join(", "),
        golden::LOGITS,
        golden::LOSSES,
        golden::GRADIENTS,
        parity::OUTPUTS,
        parity::GRADIENTS
    )
}

fn verdict(holds: bool) -> &'static str {
    if holds { "ok" } else { "BEYOND TOLERANCE" }
}
