__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from shlex import quote

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
model = snakemake.input.get("model") or snakemake.params.get("model", "nano")
gff = f"--gff {quote(snakemake.input.gff)}" if snakemake.input.get("gff") else ""

shell(
    "cistron score saturate --force --threads {snakemake.threads} --model {model:q}"
    " --fasta {snakemake.input.fasta:q} {gff} {extra} -o {snakemake.output[0]:q} {log}"
)
