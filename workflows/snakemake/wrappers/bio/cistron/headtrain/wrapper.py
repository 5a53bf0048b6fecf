__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from shlex import quote

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=True, stderr=True)
wild_type = snakemake.input.get("wild_type")
wild_type = f"--wild-type {quote(wild_type)}" if wild_type else ""

shell(
    "cistron head train --force --threads {snakemake.threads} --table {snakemake.input.table:q}"
    " {wild_type} {extra} --out {snakemake.output[0]:q} {log}"
)
