__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

shell(
    "cistron corpus build --force --threads {snakemake.threads} {extra}"
    " --out {snakemake.output[0]:q} {snakemake.input:q} {log}"
)
