//! Compiles the C++ shim in `kernels/` against the libtorch that torch-sys found, and the
//! CUDA kernels where nvcc is found.
//!
//! - `CISTRON_NVCC`: path of nvcc, or `none` to build without CUDA kernels
//! - `CISTRON_CUDA_ARCH`: architectures to compile for, e.g. `90a` or `80,90a`; by default
//!   80 and 90a, and PTX of 90 for what comes later
//!
//! Objects are kept: only what changed is compiled anew.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

fn main() {
    let lib = PathBuf::from(
        env::var("DEP_TCH_LIBTORCH_LIB").expect("torch-sys reports where libtorch lies"),
    );
    let include = lib
        .parent()
        .expect("libtorch/lib has a parent")
        .join("include");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let root = PathBuf::from("../../kernels");
    println!("cargo:rerun-if-changed={}", root.display());
    for name in ["CISTRON_NVCC", "CISTRON_CUDA_ARCH", "CUDA_HOME", "PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }

    let cuda = Cuda::find(&lib);
    let mut compiler = cc::Build::new();
    compiler
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .debug(false)
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"));
    if let Some(cuda) = &cuda {
        compiler.define("CISTRON_CUDA", None).include(&cuda.include);
    }
    let cpp = compiler.get_compiler();
    println!("cargo:rustc-check-cfg=cfg(cistron_cuda, cistron_nccl)");
    if cuda.is_some() {
        println!("cargo:rustc-cfg=cistron_cuda");
    }

    let mut jobs: Vec<Job> = Vec::new();
    if let Some(cuda) = &cuda {
        for source in files(&root.join("cuda"), "cu") {
            jobs.push(Job::new(cuda.command(), source, &out));
        }
    } else {
        println!(
            "cargo:warning=nvcc is not found: GPUs will use libtorch's own operators, which are \
             slower; install CUDA 13 or set CISTRON_NVCC"
        );
    }
    let headers = precompiled(&cpp, &root.join("torch.h"), &out);
    for source in [files(&root, "cpp"), files(&root.join("ops"), "cpp")].concat() {
        let mut command = cpp.to_command();
        if let Some(headers) = &headers {
            command.arg("-include").arg(headers);
        }
        jobs.push(Job::new(command, source, &out));
    }
    let nccl = cuda.as_ref().and_then(|_| nccl_header(&lib));
    if let Some(header) = &nccl {
        let source = root.join("nccl/group.cpp");
        let mut command = cpp.to_command();
        command.arg("-DUSE_C10D_NCCL").arg("-I").arg(header);
        jobs.push(Job::shared(command, source, out.join("libcistron_nccl.so")));
        println!("cargo:rustc-cfg=cistron_nccl");
    } else if cuda.is_some() {
        println!("cargo:warning=nccl.h is not found: the build trains on one GPU at a time");
    }
    let objects = run(jobs);

    cc::Build::new()
        .cpp(true)
        .objects(objects)
        .compile("cistron_kernels");
    if let Some(cuda) = &cuda {
        println!("cargo:rustc-link-search=native={}", cuda.lib.display());
        println!("cargo:rustc-link-lib=static=cudart_static");
        println!("cargo:rustc-link-lib=dylib=rt");
        println!("cargo:rustc-link-lib=dylib=pthread");
    }
    println!("cargo:rustc-link-lib=dylib=dl");
}

/// The folder of `nccl.h`: beside libtorch's wheel, or the system's.
fn nccl_header(torch_lib: &Path) -> Option<PathBuf> {
    let wheel = torch_lib.join("../../nvidia/nccl/include");
    [wheel, PathBuf::from("/usr/include")]
        .into_iter()
        .find(|folder| folder.join("nccl.h").is_file())
}

/// The CUDA toolkit.
struct Cuda {
    nvcc: PathBuf,
    include: PathBuf,
    lib: PathBuf,
    architectures: Vec<String>,
}

impl Cuda {
    /// nvcc of `CISTRON_NVCC`, `CUDA_HOME`, `PATH`, or the wheel beside libtorch's.
    fn find(torch_lib: &Path) -> Option<Self> {
        let given = env::var_os("CISTRON_NVCC").filter(|path| !path.is_empty());
        let nvcc = match given {
            Some(path) if path == "none" => return None,
            Some(path) => {
                let path = PathBuf::from(path);
                assert!(
                    path.is_file(),
                    "CISTRON_NVCC={} is not a file: point it at nvcc, or set it to none",
                    path.display()
                );
                path
            }
            None => {
                let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
                let path = env::var_os("PATH").unwrap_or_default();
                let wheel = torch_lib.join("../../nvidia/cu13/bin");
                home.into_iter()
                    .chain(env::split_paths(&path).collect::<Vec<_>>())
                    .chain([wheel])
                    .map(|folder| folder.join("nvcc"))
                    .find(|nvcc| nvcc.is_file())?
            }
        };
        let nvcc = nvcc.canonicalize().ok()?;
        let home = nvcc.parent()?.parent()?.to_path_buf();
        let place = |names: &[&str], file: &str| {
            let folders = names.iter().map(|name| home.join(name));
            let found = folders
                .into_iter()
                .find(|folder| folder.join(file).exists());
            if found.is_none() {
                println!(
                    "cargo:warning=nvcc at {} has no {file}: CUDA kernels are left out",
                    nvcc.display()
                );
            }
            found
        };
        Some(Self {
            include: place(
                &["include", "targets/x86_64-linux/include"],
                "cuda_runtime_api.h",
            )?,
            lib: place(
                &["lib", "lib64", "targets/x86_64-linux/lib"],
                "libcudart_static.a",
            )?,
            architectures: match env::var("CISTRON_CUDA_ARCH") {
                Ok(list) if !list.is_empty() => list
                    .split(',')
                    .map(|arch| format!("arch=compute_{arch},code=sm_{arch}"))
                    .collect(),
                _ => [
                    "arch=compute_80,code=sm_80",
                    "arch=compute_90a,code=sm_90a",
                    "arch=compute_90,code=compute_90",
                ]
                .map(str::to_owned)
                .to_vec(),
            },
            nvcc,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.nvcc);
        command.args(["-O3", "-std=c++17", "-lineinfo", "-Xcompiler", "-fPIC"]);
        for architecture in &self.architectures {
            command.args(["-gencode", architecture]);
        }
        command
    }
}

/// Compiles libtorch's headers ahead of the sources, which takes most of the time of each of
/// them. Returns what to include; none where the compiler does not do it.
fn precompiled(cpp: &cc::Tool, source: &Path, out: &Path) -> Option<PathBuf> {
    if !cpp.is_like_gnu() {
        return None;
    }
    let header = out.join("torch.h");
    let text = fs::read(source).ok()?;
    if fs::read(&header).ok().as_ref() != Some(&text) {
        fs::write(&header, text).expect("OUT_DIR is writable");
    }
    let mut command = cpp.to_command();
    command.args(["-x", "c++-header", "-c"]);
    let object = header.with_added_extension("gch");
    Job::made(command, header.clone(), object, false).run();
    Some(header)
}

/// One source to compile.
struct Job {
    command: Command,
    source: PathBuf,
    object: PathBuf,
    /// Whether it becomes a part of the library.
    linked: bool,
}

impl Job {
    fn new(mut command: Command, source: PathBuf, out: &Path) -> Self {
        let name = source.file_name().expect("a source is a file");
        let object = out.join(name).with_added_extension("o");
        command.arg("-c");
        Self::made(command, source, object, true)
    }

    /// A shared object, which finds its symbols in what is loaded before it.
    fn shared(mut command: Command, source: PathBuf, object: PathBuf) -> Self {
        command.args(["-shared", "-fPIC", "-fvisibility=hidden"]);
        Self::made(command, source, object, false)
    }

    fn made(mut command: Command, source: PathBuf, object: PathBuf, linked: bool) -> Self {
        command
            .arg("-MMD")
            .arg("-MF")
            .arg(object.with_extension("d"))
            .arg(&source)
            .arg("-o")
            .arg(&object);
        Self {
            command,
            source,
            object,
            linked,
        }
    }

    /// The command without its environment, much of which changes from build to build.
    fn words(&self) -> String {
        let words: Vec<&OsStr> = std::iter::once(self.command.get_program())
            .chain(self.command.get_args())
            .collect();
        format!("{words:?}")
    }

    /// Whether the object is that of this command, and younger than all that it was made from.
    fn fresh(&self) -> bool {
        let same = fs::read_to_string(self.object.with_extension("command"))
            .is_ok_and(|command| command == self.words());
        let Some(made) = modified(&self.object).filter(|_| same) else {
            return false;
        };
        fs::read_to_string(self.object.with_extension("d")).is_ok_and(|list| {
            list.split_whitespace()
                .filter(|word| *word != "\\" && !word.ends_with(':'))
                // nvcc puts a space between the object's name and the colon.
                .filter(|word| Path::new(word) != self.object)
                .all(|file| modified(Path::new(file)).is_some_and(|time| time < made))
        })
    }

    fn run(&mut self) {
        if self.fresh() {
            return;
        }
        let status = self.command.status();
        assert!(
            status.as_ref().is_ok_and(|status| status.success()),
            "{} does not compile ({status:?}): {:?}",
            self.source.display(),
            self.command
        );
        fs::write(self.object.with_extension("command"), self.words())
            .expect("OUT_DIR is writable");
    }
}

/// Runs all jobs, at most two at a time: nvcc takes gigabytes. Returns the objects.
fn run(jobs: Vec<Job>) -> Vec<PathBuf> {
    let linked = jobs.iter().filter(|job| job.linked);
    let objects = linked.map(|job| job.object.clone()).collect();
    let workers = env::var("NUM_JOBS").map_or(1, |n| n.parse().unwrap_or(1).clamp(1, 2));
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().expect("no holder panics").next();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(mut job) = next() {
                    job.run();
                }
            });
        }
    });
    objects
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

/// Files of a folder with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new(extension)))
        .collect();
    files.sort();
    files
}
