//! `--model`: a folder, or the name of a model inside the binary.

use std::path::{Path, PathBuf};

use anyhow::bail;
use cistron_genome::compression::input_name;
use cistron_genome::fasta::Genome;
use cistron_kernels::runtime;
use cistron_model::{Chunking, HNet, Precision, checkpoint};
use cistron_score::Engine;
use cistron_score::relatives::Relatives;
use clap::{Args, ValueEnum};
use tch::Device;

use crate::global::Global;
use crate::stop;

/// Name, config.json and model.safetensors of each bundled model.
const BUNDLED: &[(&str, &str, &[u8])] = &[(
    "nano",
    include_str!("../../../data/models/nano/config.json"),
    include_bytes!("../../../data/models/nano/model.safetensors"),
)];

/// The model of a command.
#[derive(Debug, Clone, Args)]
pub struct ModelArg {
    /// Model folder (config.json, model.safetensors), or the name of a bundled model
    #[arg(long, value_name = "MODEL", default_value = "nano")]
    pub model: PathBuf,
}

/// Numbers in which a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PrecisionArg {
    /// bf16 on a GPU, fp32 on the CPU
    Auto,
    /// 32-bit floating point
    Fp32,
    /// bfloat16; the residual stream, routers and likelihoods stay fp32
    Bf16,
}

impl PrecisionArg {
    /// What it means on `device`; also sets how libtorch multiplies there.
    pub fn on(self, device: Device) -> Precision {
        let precision = match self {
            Self::Auto => Precision::of(device),
            Self::Fp32 => Precision::Fp32,
            Self::Bf16 => Precision::Bf16,
        };
        runtime::allow_tf32(precision == Precision::Bf16);
        precision
    }
}

/// The model of a command that runs it.
#[derive(Debug, Clone, Args)]
pub struct InferenceArg {
    #[command(flatten)]
    model: ModelArg,
    /// Numbers in which the model computes
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionArg,
}

impl InferenceArg {
    /// Loads another model in the same way.
    pub fn load_other(&self, model: &Path, device: Device) -> anyhow::Result<Loaded> {
        let model = ModelArg {
            model: model.to_owned(),
        };
        let precision = self.precision;
        Self { model, precision }.load(device)
    }

    /// Loads the model to `device`, its weights in the precision asked for.
    pub fn load(&self, device: Device) -> anyhow::Result<Loaded> {
        let Loaded { model, provenance } = self.model.load(device)?;
        let precision = self.precision.on(device);
        let provenance = match precision {
            Precision::Fp32 => provenance,
            other => format!("{provenance};precision={}", other.name()),
        };
        Ok(Loaded {
            model: model.for_inference(precision),
            provenance,
        })
    }
}

/// The model of a command that scores, with the genomes that help it.
#[derive(Debug, Clone, Args)]
pub struct ScorerArg {
    #[command(flatten)]
    model: InferenceArg,
    /// Genomes of relatives, plain, gzip or BGZF: where they align with what is read, a base that
    /// they have counts as likely
    #[arg(long, value_name = "FASTA,...", value_delimiter = ',')]
    relatives: Vec<PathBuf>,
}

impl ScorerArg {
    /// Starts the model, to read `genome`; also what outputs say of it.
    pub fn start(
        &self,
        global: &Global,
        device: Device,
        genome: Option<&Genome>,
    ) -> anyhow::Result<(Engine, String)> {
        let Loaded { model, provenance } = self.model.load(device)?;
        let engine = Engine::new(&model, global.threads())?.with_stop(stop::flag());
        if self.relatives.is_empty() {
            return Ok((engine, provenance));
        }
        let own = genome.map(Genome::digest);
        let (mut said, mut contigs) = (Vec::new(), Vec::new());
        for path in &self.relatives {
            let (name, relative) = (input_name(path), Genome::read(path)?);
            let digest = relative.digest();
            if own.as_ref() == Some(&digest) {
                tracing::warn!(
                    "--relatives {name}: this is the genome that is scored; all that differs from \
                     it will look unlikely"
                );
            }
            said.push(format!("{name}:sha256={digest}"));
            contigs.extend(relative.contigs);
        }
        let relatives = Relatives::of(contigs)?;
        let provenance = format!("{provenance};relatives={}", said.join(","));
        Ok((engine.with_relatives(relatives), provenance))
    }
}

/// A loaded model with what outputs say of it.
pub struct Loaded {
    /// The model.
    pub model: HNet,
    /// Folder or name, and SHA-256 of the weights.
    pub provenance: String,
}

impl ModelArg {
    /// Loads the model to `device`.
    pub fn load(&self, device: Device) -> anyhow::Result<Loaded> {
        if self.model.is_dir() {
            let absent = [checkpoint::CONFIG, checkpoint::WEIGHTS]
                .into_iter()
                .find(|file| !self.model.join(file).exists());
            if let Some(absent) = absent {
                bail!(
                    "--model {}: has no {absent}; expected a model folder, such as model/ of a \
                     run folder of `cistron pretrain`",
                    self.model.display()
                );
            }
            let model = HNet::load(&self.model, device)?;
            if model.config().cistron.chunking == Chunking::Codons {
                bail!(
                    "--model {}: its chunks are the codons of an annotation, a control that \
                     `cistron pretrain` alone reads; its figures are those of its run folder",
                    self.model.display()
                );
            }
            let digest = checkpoint::weights_digest(&self.model)?;
            let provenance = format!("{};sha256={digest}", self.model.display());
            return Ok(Loaded { model, provenance });
        }
        let name = self.model.to_string_lossy();
        if let Some((name, config, weights)) = BUNDLED.iter().find(|(known, ..)| *known == name) {
            let model = checkpoint::load_bundled(name, config, weights, device)?;
            let digest = checkpoint::bytes_digest(weights);
            return Ok(Loaded {
                model,
                provenance: format!("{name};sha256={digest}"),
            });
        }
        let known: Vec<&str> = BUNDLED.iter().map(|(name, ..)| *name).collect();
        bail!(
            "--model {name}: no such folder, and no bundled model of that name (there is {}); \
             train one with `cistron pretrain`, whose run folder then holds it as model/",
            known.join(", ")
        );
    }
}
