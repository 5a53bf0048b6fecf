__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
index = "--write-index" if snakemake.output.get("tbi") else ""

shell(
    "cistron gather --force --threads {snakemake.threads} {index} {extra}"
    " {snakemake.input:q} -o {snakemake.output[0]:q} {log}"
)
