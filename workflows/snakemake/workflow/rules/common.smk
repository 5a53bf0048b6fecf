"""Tables, targets and what several rules ask for."""

import csv
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# Sets every key that the configuration leaves out to its default.
validate(config, "../schemas/config.schema.yaml")


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
            for column in {"fasta", "gff", "vcf"} & row.keys():
                row[column] = found(row[column], path)
            rows[row[key]] = row
    return rows


GENOMES = read_table(config["genomes"], "genome", "../schemas/genomes.schema.yaml")
SAMPLES = (
    read_table(config["variants"], "sample", "../schemas/variants.schema.yaml")
    if config["variants"]
    else {}
)
for name, sample in SAMPLES.items():
    if sample["genome"] not in GENOMES:
        raise WorkflowError(
            f"{config['variants']}: sample '{name}' is on genome '{sample['genome']}', which "
            f"{config['genomes']} lacks; add it there"
        )

OUT = config["outdir"]
TRAINED = config["model"] == "pretrain"
STEPS = config["steps"]


wildcard_constraints:
    genome="[^/]+",
    sample="[^/]+",
    contig="[^/]+",


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


def genome_file(column):
    """An input function: a file of the genome of a step, or nothing where it has none."""

    def find(wildcards):
        name = getattr(wildcards, "genome", None) or SAMPLES[wildcards.sample]["genome"]
        return GENOMES[name].get(column, [])

    return find


def option(name, value):
    """An option with its value, quoted; nothing without a value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def genome_options(wildcards, input):
    """Options that follow from the genome: its annotation and its circular contigs."""
    name = getattr(wildcards, "genome", None) or SAMPLES[wildcards.sample]["genome"]
    gff = option("--gff", input.get("gff"))
    return f"{gff} {option('--circular', GENOMES[name].get('circular'))}".strip()


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
