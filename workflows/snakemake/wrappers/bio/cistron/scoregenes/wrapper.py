__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
model = snakemake.input.get("model") or snakemake.params.get("model", "nano")

shell(
    "cistron score genes --force --threads {snakemake.threads} --model {model:q}"
    " --fasta {snakemake.input.fasta:q} --gff {snakemake.input.gff:q} {extra}"
    " -o {snakemake.output[0]:q} {log}"
)
