__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

shell(
    "cistron head predict --force --threads {snakemake.threads} --head {snakemake.input.head:q}"
    " --table {snakemake.input.table:q} {extra} -o {snakemake.output[0]:q} {log}"
)
