"""Writes the table of `cistron corpus build --table`, with whole paths."""

import contextlib
from pathlib import Path

with (
    open(snakemake.log[0], "w") as log,
    contextlib.redirect_stderr(log),
    open(snakemake.output[0], "w") as table,
):
    print("name", "fasta", "split", sep="\t", file=table)
    for name, fasta, split in snakemake.params.rows:
        if split != "none":
            print(name, Path(fasta).resolve(), split, sep="\t", file=table)
