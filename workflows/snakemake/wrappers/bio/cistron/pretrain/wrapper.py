__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from pathlib import Path

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
launcher = snakemake.params.get("launcher", "")

model = Path(snakemake.output.model)
if model.name != "model":
    raise ValueError(f"output model: {model} must be named 'model', as in 'run/model'")

shell(
    "{launcher} cistron pretrain --resume auto --threads {snakemake.threads} {extra}"
    " --config {snakemake.input.config:q} --corpus {snakemake.input.corpus:q}"
    " --out {model.parent:q} {log}"
)
