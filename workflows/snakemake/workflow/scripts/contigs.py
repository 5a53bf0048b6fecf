"""Lists the contigs of a FASTA file, plain or gzipped."""

import contextlib
import gzip

with (
    open(snakemake.log[0], "w") as log,
    contextlib.redirect_stderr(log),
    open(snakemake.output[0], "w") as names,
):
    path = snakemake.input[0]
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if packed else open(path) as fasta:
        for line in fasta:
            if line.startswith(">"):
                print(line[1:].split()[0], file=names)
