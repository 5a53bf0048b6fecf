//! Compiles the C++ shim in `kernels/` against the libtorch that torch-sys found.

use std::env;
use std::path::PathBuf;

fn main() {
    let lib = PathBuf::from(
        env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys reports where libtorch lies"),
    );
    let include = lib
        .parent()
        .expect("libtorch/lib has a parent")
        .join("include");
    let root = PathBuf::from("../../kernels");
    let sources = [
        "runtime.cpp",
        "ops/attention.cpp",
        "ops/checkpoint.cpp",
        "ops/graph.cpp",
        "ops/step.cpp",
    ]
    .map(|file| root.join(file));
    for source in &sources {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    println!("cargo:rerun-if-changed={}", root.join("shim.h").display());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .files(&sources)
        .compile("cistron_kernels");
    println!("cargo:rustc-link-lib=dylib=dl");
}
