//! Model folders: `config.json` and `model.safetensors` with upstream tensor names.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::error::ModelError;
use crate::hnet::HNet;
use crate::params::Params;

/// Name of the configuration within a model folder.
pub const CONFIG: &str = "config.json";
/// Name of the weights within a model folder.
pub const WEIGHTS: &str = "model.safetensors";

/// Where the bytes of a tensor file lie.
enum Bytes {
    Mapped(Mmap),
    Bundled(&'static [u8]),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Bundled(bytes) => bytes,
        }
    }
}

/// A safetensors file, memory-mapped or inside the binary.
pub struct TensorFile {
    path: PathBuf,
    map: Bytes,
    metadata: HashMap<String, String>,
}

impl TensorFile {
    /// Maps the file and checks its header.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is truncated, or is not safetensors.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(|error| ModelError::io(path, error))?;
        // SAFETY: the map is read only; model files are replaced by rename, never cut in place.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(|error| ModelError::io(path, error))?;
        Self::parse(path, Bytes::Mapped(map))
    }

    fn parse(path: &Path, map: Bytes) -> Result<Self, ModelError> {
        let damaged = |error: safetensors::SafeTensorError| {
            ModelError::format(
                path,
                format!(
                    "not a complete safetensors file ({error}); it may be truncated: copy or \
                     train it again"
                ),
            )
        };
        let (_, header) = SafeTensors::read_metadata(&map).map_err(damaged)?;
        SafeTensors::deserialize(&map).map_err(damaged)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self {
            path: path.to_owned(),
            map,
            metadata,
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The string pairs of the header.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.metadata
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.map).expect("checked when the file was opened")
    }

    /// Names of all tensors.
    pub fn names(&self) -> Vec<String> {
        self.tensors()
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// Shape of a tensor, or none where the file has no such tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        let tensors = self.tensors();
        let view = tensors.tensor(name).ok()?;
        Some(view.shape().iter().map(|&n| n as i64).collect())
    }

    /// A copy of a tensor on the CPU.
    ///
    /// # Errors
    ///
    /// There is no such tensor, or its dtype is none of those we read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let problem = |problem: String| ModelError::Tensor {
            path: self.path.clone(),
            name: name.to_owned(),
            problem,
        };
        let tensors = self.tensors();
        let view = tensors
            .tensor(name)
            .map_err(|_| problem("not in the file".into()))?;
        let kind = kind_of(view.dtype())
            .ok_or_else(|| problem(format!("unsupported dtype {:?}", view.dtype())))?;
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
    }
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F16 => Kind::Half,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Float => Dtype::F32,
        Kind::Double => Dtype::F64,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Half => Dtype::F16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::BOOL,
        _ => return None,
    })
}

/// Writes tensors as one safetensors file: to a temporary name, synced, then renamed.
///
/// # Errors
///
/// The file cannot be written in full; nothing is left under `path` then.
pub fn write_tensors(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<(), ModelError> {
    let bytes = |(name, tensor): &(String, Tensor)| -> Result<_, ModelError> {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let dtype = dtype_of(tensor.kind()).ok_or_else(|| ModelError::Tensor {
            path: path.to_owned(),
            name: name.clone(),
            problem: format!("cannot store {:?}", tensor.kind()),
        })?;
        let size = tensor.numel() * tensor.kind().elt_size_in_bytes();
        let mut data = vec![0u8; size];
        tensor.f_copy_data_u8(&mut data, tensor.numel())?;
        let shape = tensor
            .size()
            .iter()
            .map(|&n| n as usize)
            .collect::<Vec<_>>();
        Ok((name.clone(), dtype, shape, data))
    };
    let stored = tensors.iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    let views = stored.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("data of this shape");
        (name.as_str(), view)
    });
    let mut header: HashMap<String, String> = metadata
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    header.insert("format".into(), "pt".into());
    let mut encoded = safetensors::serialize(views, Some(header))
        .map_err(|error| ModelError::format(path, error.to_string()))?;
    sort_metadata(&mut encoded);
    write_atomically(path, &encoded)
}

/// Puts the metadata of a safetensors header in the order of its keys: the library
/// writes it in a random one, and equal models should be equal files.
fn sort_metadata(encoded: &mut [u8]) {
    let Some(length) = encoded
        .first_chunk()
        .map(|bytes| u64::from_le_bytes(*bytes) as usize)
    else {
        return;
    };
    let Some(header) = encoded.get_mut(8..8 + length) else {
        return;
    };
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(header) else {
        return;
    };
    if let Some(metadata) = value
        .get_mut("__metadata__")
        .and_then(|value| value.as_object_mut())
    {
        metadata.sort_keys();
    }
    let sorted = value.to_string();
    // Only the order has changed: the text is as long as before, and the padding stays.
    if header.trim_ascii_end().len() == sorted.len() {
        header[..sorted.len()].copy_from_slice(sorted.as_bytes());
    }
}

/// Writes a file to a temporary name beside it, syncs it and renames it.
///
/// # Errors
///
/// Names `path`; nothing is left under that name when writing fails.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let fail = |error| ModelError::io(path, error);
    let file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    let mut writer = BufWriter::new(file);
    writer.write_all(bytes).map_err(fail)?;
    let file = writer
        .into_inner()
        .map_err(|error| fail(error.into_error()))?;
    file.as_file().sync_all().map_err(fail)?;
    set_readable(file.as_file()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

/// Temporary files start private; outputs have the usual mode.
fn set_readable(file: &File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

pub(crate) fn load(folder: &Path, device: Device) -> Result<HNet, ModelError> {
    let config = Config::read(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    let file = TensorFile::open(&path)?;
    let params = read_params(&config, &file, "", device)?;
    Ok(HNet::with_params(config, params, device))
}

/// Takes the parameters that `config` implies from `file`, where their names have `prefix`.
///
/// # Errors
///
/// Names the first tensor that is missing, of another shape, or not of this model.
pub fn read_params(
    config: &Config,
    file: &TensorFile,
    prefix: &str,
    device: Device,
) -> Result<Params, ModelError> {
    let problem = |name: &str, problem: String| ModelError::Tensor {
        path: file.path.clone(),
        name: name.to_owned(),
        problem,
    };
    let mut expected = std::collections::HashSet::new();
    let params = Params::build(config, |spec| {
        let name = format!("{prefix}{}", spec.name);
        let shape = file.shape(&name).ok_or_else(|| {
            problem(
                &name,
                "not in the file; is config.json of another model?".into(),
            )
        })?;
        if shape != spec.shape {
            return Err(problem(
                &name,
                format!(
                    "shape {shape:?}, but the config says {:?}; is config.json of another model?",
                    spec.shape
                ),
            ));
        }
        expected.insert(name.clone());
        let tensor = file.tensor(&name)?;
        if tensor.kind() == Kind::Int64 || !tensor.is_floating_point() {
            return Err(problem(
                &name,
                format!("{:?} is not a floating-point kind", tensor.kind()),
            ));
        }
        Ok(tensor.to_kind(Kind::Float).to_device(device))
    })?;
    let unknown = file
        .names()
        .into_iter()
        .filter(|name| name.starts_with(prefix))
        .find(|name| !expected.contains(name));
    match unknown {
        Some(name) => Err(problem(
            &name,
            "unknown to the config; is config.json of another model?".into(),
        )),
        None => Ok(params),
    }
}

/// Writes a model folder with weights of `kind`.
///
/// # Errors
///
/// A file cannot be written.
pub fn save(
    model: &HNet,
    folder: &Path,
    kind: Kind,
    metadata: &BTreeMap<String, String>,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|error| ModelError::io(folder, error))?;
    let tensors: Vec<(String, Tensor)> = model
        .params()
        .iter()
        .map(|(name, param)| (name.to_owned(), param.tensor.detach().to_kind(kind)))
        .collect();
    write_tensors(&folder.join(WEIGHTS), &tensors, metadata)?;
    let path = folder.join(CONFIG);
    let mut text = serde_json::to_string_pretty(model.config())
        .map_err(|error| ModelError::format(&path, error.to_string()))?;
    text.push('\n');
    write_atomically(&path, text.as_bytes())
}

/// Loads a model whose files are inside the binary; `name` stands for their folder in messages.
///
/// # Errors
///
/// As [`HNet::load`].
pub fn load_bundled(
    name: &str,
    config: &str,
    weights: &'static [u8],
    device: Device,
) -> Result<HNet, ModelError> {
    let path = Path::new(name);
    let config = Config::from_json(config, &path.join(CONFIG))?;
    let file = TensorFile::parse(&path.join(WEIGHTS), Bytes::Bundled(weights))?;
    let params = read_params(&config, &file, "", device)?;
    Ok(HNet::with_params(config, params, device))
}

/// SHA-256 of bytes, in hexadecimal.
pub fn bytes_digest(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of the weights file of a model folder, in hexadecimal.
///
/// # Errors
///
/// The file cannot be read.
pub fn weights_digest(folder: &Path) -> Result<String, ModelError> {
    let path = folder.join(WEIGHTS);
    let mut file = File::open(&path).map_err(|error| ModelError::io(&path, error))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer)
            .map_err(|error| ModelError::io(&path, error))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
