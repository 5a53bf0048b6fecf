__author__ = "The cistron developers"
__license__ = "MIT OR Apache-2.0"

from shlex import quote

from snakemake.shell import shell

extra = snakemake.params.get("extra", "")
log = snakemake.log_fmt_shell(stdout=False, stderr=True)
model = snakemake.input.get("model") or snakemake.params.get("model", "nano")
files = " ".join(
    f"--{name} {quote(snakemake.input[name])}"
    for name in ["cds", "protein", "fasta", "gff"]
    if snakemake.input.get(name)
)
scores = f"-o {quote(snakemake.output.tsv)}" if snakemake.output.get("tsv") else ""

shell(
    "cistron score dms --json --force --threads {snakemake.threads} --model {model:q}"
    " --dms {snakemake.input.table:q} {files} {extra} {scores}"
    " > {snakemake.output.json:q} {log}"
)
