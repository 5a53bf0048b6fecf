//! The model against golden vectors of the reference implementation.

use std::path::Path;

use cistron_model::golden;
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
