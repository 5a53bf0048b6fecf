"""Tables, targets and what several rules ask for."""

import csv
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# Sets every key that the configuration leaves out to its default.
validate(config, "../schemas/config.schema.yaml")


# Columns of all tables that name files.
FILES = {"fasta", "gff", "vcf", "table", "cds", "protein", "wild_type", "predict"}


def found(path, table):
    """A path of a table: from the folder that Snakemake runs in, or else from that of the table."""
    beside = Path(table).parent / path
    return str(beside) if not Path(path).exists() and beside.exists() else path


def read_table(path, key, schema):
    """The rows of a tab-separated table by their key, each checked against a schema."""
    rows = {}
    with open(path, newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t"), start=2):
            place = f"{path}, line {number}"
            if None in row or None in row.values():
                raise WorkflowError(f"{place}: more or fewer columns than the header has")
            row = {name: text.strip() for name, text in row.items() if text.strip()}
            try:
                validate(row, schema)
            except WorkflowError as error:
                raise WorkflowError(f"{place}: {error}") from error
            if row[key] in rows:
                raise WorkflowError(f"{place}: {key} '{row[key]}' comes twice")
            for column in FILES & row.keys():
                row[column] = found(row[column], path)
            rows[row[key]] = row
    return rows


GENOMES = read_table(config["genomes"], "genome", "../schemas/genomes.schema.yaml")
SAMPLES, SCANS, HEADS = (
    (
        read_table(config[name], key, f"../schemas/{name}.schema.yaml")
        if config[name]
        else {}
    )
    for name, key in [("variants", "sample"), ("scans", "scan"), ("heads", "head")]
)
for table, rows in [("variants", SAMPLES), ("scans", SCANS)]:
    for name, row in rows.items():
        if "genome" in row and row["genome"] not in GENOMES:
            raise WorkflowError(
                f"{config[table]}: '{name}' is on genome '{row['genome']}', which "
                f"{config['genomes']} lacks; add it there"
            )

OUT = config["outdir"]
TRAINED = config["model"] == "pretrain"
STEPS = config["steps"]


wildcard_constraints:
    genome="[^/]+",
    sample="[^/]+",
    contig="[^/]+",
    scan="[^/]+",
    head="[^/]+",


scattergather:
    vcf=config["scatter"]["shards"],


def targets():
    """The outputs of every step that is turned on, wherever its inputs are there."""
    wanted = []
    annotated = [name for name, genome in GENOMES.items() if "gff" in genome]
    if TRAINED:
        wanted.append(f"{OUT}/pretrain/model")
    if "eval" in STEPS:
        wanted += [f"{OUT}/eval/{name}.json" for name in GENOMES]
    if "score_vcf" in STEPS:
        wanted += [f"{OUT}/variants/{name}.vcf.gz" for name in SAMPLES]
    if "score_genes" in STEPS:
        wanted += [f"{OUT}/genes/{name}.tsv" for name in annotated]
    if "tracks" in STEPS:
        wanted += [f"{OUT}/tracks/{name}" for name in GENOMES]
    if "score_dms" in STEPS:
        wanted += [f"{OUT}/dms/{name}.json" for name in SCANS]
    if "head" in STEPS:
        wanted += [f"{OUT}/heads/{name}" for name in HEADS]
        wanted += [
            f"{OUT}/predictions/{name}.tsv"
            for name, head in HEADS.items()
            if "predict" in head
        ]
    if "saturate" in STEPS:
        wanted += [f"{OUT}/saturate/{name}.tsv.gz" for name in GENOMES]
    return wanted


def model_input(wildcards):
    """The model folder that a step waits for; nothing for a model inside the binary."""
    if TRAINED:
        return f"{OUT}/pretrain/model"
    return config["model"] if Path(config["model"]).is_dir() else []


def model_option(wildcards):
    """The value of --model."""
    return shlex.quote(f"{OUT}/pretrain/model" if TRAINED else config["model"])


def genome_row(wildcards):
    """The genome of a step, of its VCF file or of its scan; empty for a gene alone."""
    if wildcards.get("genome"):
        return GENOMES[wildcards.genome]
    if wildcards.get("sample"):
        return GENOMES[SAMPLES[wildcards.sample]["genome"]]
    return GENOMES.get(SCANS[wildcards.scan].get("genome"), {})


def genome_file(column):
    """An input function: a file of the genome of a step, or nothing where it has none."""
    return lambda wildcards: genome_row(wildcards).get(column, [])


def scan_file(column):
    """An input function: a file of a scan, or nothing where it has none."""
    return lambda wildcards: SCANS[wildcards.scan].get(column, [])


def head_file(column):
    """An input function: a file of a head, or nothing where it has none."""
    return lambda wildcards: HEADS[wildcards.head].get(column, [])


def option(name, value):
    """An option with its value, quoted; nothing without a value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def genome_options(wildcards, input):
    """Options that follow from the genome: its annotation and its circular contigs."""
    gff = option("--gff", input.get("gff"))
    return f"{gff} {option('--circular', genome_row(wildcards).get('circular'))}".strip()


def scan_options(wildcards, input):
    """Options that follow from a scan: the gene, its genome, and those of its row."""
    named = [option(f"--{name}", input.get(name)) for name in ["cds", "protein", "fasta"]]
    named += [genome_options(wildcards, input), SCANS[wildcards.scan].get("options", "")]
    return " ".join(filter(None, named))


def head_columns(wildcards):
    """Options that name the columns of sequences of a head."""
    row = HEADS[wildcards.head]
    named = [option(f"--{name}-column", row.get(name)) for name in ["sequence", "mutant"]]
    return " ".join(filter(None, named))


def head_options(wildcards, input):
    """Options that follow from a head: its columns, its wild type, and those of its row."""
    row = HEADS[wildcards.head]
    named = [
        head_columns(wildcards),
        option("--target-column", row["target"]),
        option("--wild-type", input.get("wild_type")),
        row.get("options", ""),
    ]
    return " ".join(filter(None, named))


def device(step):
    """The value of --device: a GPU is used by a step that asks for one, and by no other."""
    return "auto" if config["resources"][step]["gpu"] else "cpu"


def needs(step, what):
    """Threads, memory, time or GPUs of a step."""
    return config["resources"][step][what]


def extra(step):
    """More options of a step, from the configuration."""
    return config["extra"][step]


def contig_parts(wildcards):
    """The table of every contig, in their order."""
    listed = checkpoints.contigs.get(genome=wildcards.genome).output[0]
    contigs = Path(listed).read_text().split()
    return expand(
        f"{OUT}/saturate/parts/{{genome}}/{{contig}}.tsv.gz",
        genome=wildcards.genome,
        contig=contigs,
    )
