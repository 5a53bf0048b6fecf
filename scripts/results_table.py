"""The JSON files of results.sh as tables in Markdown: python3 results_table.py OUT."""

import json
import pathlib
import sys

out = pathlib.Path(sys.argv[1])


def number(value):
    return "" if value is None else f"{value:.3f}"


def interval(ci):
    return "" if ci is None else f"{ci[0]:.3f} to {ci[1]:.3f}"


def load(pattern):
    for path in sorted(out.glob(pattern)):
        yield path.stem, json.loads(path.read_text())


variants = list(load("dms-*.json"))
if variants:
    names = ["blosum62", "codon_changes", "base_changes", "hydrophobicity", "gc", "markov5", "markov9"]
    print("| data set | n | model | 95 % | AUROC | NDCG | top tenth | " + " | ".join(names) + " |")
    print("|---" * (7 + len(names)) + "|")
    for name, found in variants:
        name = name.removeprefix("dms-") + (" (translated back)" if found["back_translated"] else "")
        cells = [name, str(found["n"]), number(found["spearman"]), interval(found["ci"])]
        cells += [number(found[key]) for key in ("auroc", "ndcg", "top_decile_recall")]
        baselines = found["baselines"]
        cells += [number(baselines[key]["spearman"]) if key in baselines else "" for key in names]
        print("| " + " | ".join(cells) + " |")
    print()

genes = []
for name, found in load("genes-*.json"):
    name = name.removeprefix("genes-")
    for part in found.get("genomes", []):
        genes.append((f"{name}: {part['name']}", part))
    genes.append((name + (": mean" if "genomes" in found else ""), found))
if genes:
    names = ["length", "gc", "length_gc", "length_gc_score"]
    held_out = ["supervised", "supervised_length_gc"]
    print("| genes | n | essential | model | 95 % | AUPRC | " + " | ".join(names + held_out) + " |")
    print("|---" * (6 + len(names) + len(held_out)) + "|")
    for name, found in genes:
        cells = [name, str(found["n"]), str(found["positives"]), number(found["auroc"])]
        cells += [interval(found.get("ci")), number(found["auprc"])]
        cells += [number(found["baselines"][key]["auroc"]) for key in names]
        supervised = found.get("supervised", {})
        cells += [number(supervised[key]["auroc"]) if key in supervised else "" for key in held_out]
        print("| " + " | ".join(cells) + " |")
