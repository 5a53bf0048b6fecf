__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from shlex import quote

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
model = snakemake.input.get("model") or snakemake.params.get("model", "nano")
gff = f"--gff {quote(snakemake.input.gff)}" if snakemake.input.get("gff") else ""
corpus = f"--corpus {quote(snakemake.input.corpus)}" if snakemake.input.get("corpus") else ""
plot = f"--plot {quote(snakemake.output.plot)}" if snakemake.output.get("plot") else ""

shell(
    "cistron eval lm --json --force --threads {snakemake.threads} --model {model:q}"
    " {gff} {corpus} {plot} {extra} {snakemake.input.fasta:q}"
    " > {snakemake.output.json:q} {log}"
)
