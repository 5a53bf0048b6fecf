__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from shlex import quote

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
model = snakemake.input.get("model") or snakemake.params.get("model", "nano")
gff = f"--gff {quote(snakemake.input.gff)}" if snakemake.input.get("gff") else ""
index = "--write-index" if snakemake.output.get("tbi") else ""

shell(
    "cistron score vcf --force --threads {snakemake.threads} --model {model:q}"
    " --fasta {snakemake.input.fasta:q} {gff} {index} {extra}"
    " {snakemake.input.vcf:q} -o {snakemake.output.vcf:q} {log}"
)
