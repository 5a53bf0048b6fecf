"""Do scores make sense? Variants between strains against random ones of the same codon change.

usage: scripts/sense.py DATA OUT [OPTIONS of cistron score vcf...]

DATA holds genomes/Escherichia_coli_K12_MG1655.{fna,gff3}.gz and
vcf/ecoli_6strains_vs_MG1655.snv.vcf.gz. OUT gets the variants, their scores and sense.md:

- observed: coding SNVs of the strains, drawn at random;
- matched: for each the same change of the same codon, at a random other place without an SNV;
- random: SNVs anywhere in codons.

CISTRON names the binary, VARIANTS the number of each kind [1000], SEED the draw [1].
"""

import bisect
import collections
import csv
import gzip
import os
import pathlib
import random
import subprocess
import sys

GENOME = "genomes/Escherichia_coli_K12_MG1655"
STRAINS = "vcf/ecoli_6strains_vs_MG1655.snv.vcf.gz"
COMPLEMENT = str.maketrans("ACGT", "TGCA")
RESAMPLES = 1000


def lines(path):
    with gzip.open(path, "rt") as file:
        for line in file:
            yield line.rstrip("\n")


def read_genome(path):
    name, parts = None, []
    for line in lines(path):
        if line.startswith(">"):
            name = line[1:].split()[0]
        else:
            parts.append(line.upper())
    return name, "".join(parts)


def read_codons(path, bases):
    """Bases in reading order (from 0) and strand of every codon that is in one gene alone."""
    owners = collections.Counter()
    genes = []
    for line in lines(path):
        cells = line.split("\t")
        if len(cells) < 9 or cells[2] != "CDS":
            continue
        start, end = int(cells[3]) - 1, int(cells[4])
        owners.update(range(start, end))
        if "pseudo=true" not in cells[8] and (end - start) % 3 == 0 and end <= len(bases):
            genes.append((start, end, cells[6]))
    codons = []
    for start, end, strand in genes:
        for first in range(start, end, 3):
            places = range(first, first + 3)
            if all(owners[place] == 1 for place in places):
                codons.append((tuple(places if strand == "+" else reversed(places)), strand))
    return codons


def on_strand(base, strand):
    return base if strand == "+" else base.translate(COMPLEMENT)


def draw(name, bases, codons, strains, count):
    word = lambda places, strand: "".join(on_strand(bases[place], strand) for place in places)
    at = {place: codon for codon in codons for place in codon[0]}
    alike = collections.defaultdict(list)
    for codon in codons:
        alike[word(*codon)].append(codon)
    seen = {int(line.split("\t", 2)[1]) - 1 for line in strains}
    observed = []
    for line in strains:
        _, position, _, ref, alt = line.split("\t", 5)[:5]
        place = int(position) - 1
        if len(ref) == len(alt) == 1 and place in at:
            observed.append((place, ref, alt))
    records = []
    for place, ref, alt in random.sample(observed, min(count, len(observed))):
        places, strand = at[place]
        offset, change = places.index(place), on_strand(alt, strand)
        for _ in range(1000):
            others, other_strand = random.choice(alike[word(places, strand)])
            if others[offset] not in seen:
                break
        else:
            continue
        there = others[offset]
        records.append((place, "observed", ref, alt))
        records.append((there, "matched", bases[there], on_strand(change, other_strand)))
    for _ in range(count):
        place = random.choice(random.choice(codons)[0])
        alt = random.choice([base for base in "ACGT" if base != bases[place]])
        records.append((place, "random", bases[place], alt))
    return sorted(record for record in records if record[2] in "ACGT")


def mean(values):
    return sum(values) / len(values)


def interval(values, statistic):
    found = sorted(statistic(random.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]


def auroc(positive, negative):
    ordered = sorted(negative)
    below = sum(
        (bisect.bisect_left(ordered, value) + bisect.bisect_right(ordered, value)) / 2
        for value in positive
    )
    return below / len(positive) / len(negative)


def main():
    data, out = map(pathlib.Path, sys.argv[1:3])
    out.mkdir(parents=True, exist_ok=True)
    random.seed(int(os.environ.get("SEED", 1)))
    count = int(os.environ.get("VARIANTS", 1000))
    fasta, gff = data / f"{GENOME}.fna.gz", data / f"{GENOME}.gff3.gz"
    name, bases = read_genome(fasta)
    strains = [line for line in lines(data / STRAINS) if not line.startswith("#")]
    records = draw(name, bases, read_codons(gff, bases), strains, count)
    variants, table = out / "variants.vcf", out / "scores.tsv"
    with open(variants, "w") as file:
        file.write(f"##fileformat=VCFv4.2\n##contig=<ID={name},length={len(bases)}>\n")
        file.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for place, kind, ref, alt in records:
            file.write(f"{name}\t{place + 1}\t{kind}\t{ref}\t{alt}\t.\t.\t.\n")
    command = [os.environ.get("CISTRON", "cistron"), "score", "vcf", "--fasta", fasta, "--gff", gff]
    command += ["--circular", "all", "--table", table, "-o", out / "scored.vcf", "--force", variants]
    subprocess.run([*map(str, command), *sys.argv[3:]], check=True)

    scores = collections.defaultdict(list)
    with open(table) as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["llr"] != "NA":
                scores[row["id"], row["consequence"]].append(float(row["llr"]))
    of = lambda kind: [x for (id_, _), found in scores.items() if id_ == kind for x in found]
    with open(out / "sense.md", "w") as file:
        print("| SNVs | consequence | n | mean score | 95 % |\n|---|---|---|---|---|", file=file)
        for kind in ("observed", "matched", "random"):
            for consequence in ("synonymous", "missense", "nonsense"):
                found = scores[kind, consequence]
                if found:
                    low, high = interval(found, mean)
                    row = f"{len(found)} | {mean(found):.2f} | {low:.2f} to {high:.2f}"
                    print(f"| {kind} | {consequence} | {row} |", file=file)
        observed, matched = of("observed"), of("matched")
        both = [(1, x) for x in observed] + [(0, x) for x in matched]
        area = lambda pairs: auroc([x for y, x in pairs if y], [x for y, x in pairs if not y])
        low, high = interval(both, area)
        print(
            f"\nObserved above matched: AUROC {area(both):.3f}, 95 % {low:.3f} to {high:.3f} "
            f"({len(observed)} and {len(matched)} SNVs).",
            file=file,
        )
    print((out / "sense.md").read_text(), end="")


main()
