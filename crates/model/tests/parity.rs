//! The model against golden vectors of the reference implementation.

use std::path::Path;

use cistron_model::golden;
use cistron_model::mixer::mamba3::parity as mamba3;
use tch::Device;

fn holds(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(file);
    let parity = golden::check(&path, Device::Cpu).expect("a golden file");
    println!("{file}: {parity:?}");
    assert!(parity.holds(), "{parity:?}");
}

#[test]
fn isotropic() {
    holds("hnet_isotropic.safetensors");
}

#[test]
fn one_stage() {
    holds("hnet_1stage.safetensors");
}

#[test]
fn two_stages() {
    holds("hnet_2stage_dnahnet.safetensors");
}

fn mamba3_holds(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(file);
    assert!(mamba3::is_mamba3(&path).expect("readable"));
    let parity = mamba3::check(&path, Device::Cpu).expect("a golden file");
    println!("{file}: {parity:?}");
    assert!(parity.holds(), "{parity:?}");
}

#[test]
fn mamba3_blocks() {
    mamba3_holds("mamba3_siso_heavytail_norm_fullrope.safetensors");
    mamba3_holds("mamba3_mimo_r2_norm.safetensors");
    mamba3_holds("mamba3_mimo_r4.safetensors");
}

#[test]
fn mamba3_recurrence_and_its_states() {
    mamba3_holds("mamba3_siso_op_states.safetensors");
}
