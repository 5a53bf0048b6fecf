"""Prints the tables of docs/src/tracks.md from the summary.json files of a folder of genomes.

python3 scripts/tracks_tables.py FOLDER GENOME...
"""

import json
import pathlib
import sys

MARKS = {
    "all": "all bases",
    "codon1": "codon position 1",
    "codon2": "codon position 2",
    "codon3": "codon position 3",
    "antisense1": "antisense position 1",
    "antisense2": "antisense position 2",
    "antisense3": "antisense position 3",
    "start_codon": "start codon",
    "stop_codon": "stop codon",
    "shine_dalgarno": "Shine-Dalgarno site",
    "promoter": "promoter region",
    "transfer_rna": "tRNA",
    "ribosomal_rna": "rRNA",
    "intergenic": "intergenic",
}


def share(rate):
    return "–" if rate is None else f"{100 * rate['value']:.1f}"


def interval(rate):
    return f"{share(rate)} ({100 * rate['low']:.1f}–{100 * rate['high']:.1f})"


def find(rates, mark, key="rate"):
    return next((rate[key] for rate in rates if rate["mark"] == mark), None)


def gc(strand):
    shares = strand["stages"][0]["logo"]["background"]
    return 100 * (shares[1] + shares[2])


def phases(name, summary):
    for strand in summary["survey"]:
        sign = "+" if strand["strand"] == "forward" else "−"
        for stage in strand["stages"]:
            cells = []
            for kind in ("rates", "random", "shuffled"):
                found = [find(stage[kind], f"codon{i}") for i in (1, 2, 3)]
                cells.append(" / ".join(share(rate) for rate in found))
            print(
                f"| {name} | {gc(strand):.1f} | {stage['stage']} | {sign} |"
                f" {stage['lengths']['mean']:.2f} | {' | '.join(cells)} |"
            )


def marks(summaries, stage, key):
    names = list(summaries)
    print("| bases that are | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for mark, label in MARKS.items():
        cells = []
        for summary in summaries.values():
            rates = summary["survey"][0]["stages"][stage]["rates"]
            found = find(rates, mark, key)
            cells.append("–" if found is None else interval(found))
        print(f"| {label} | " + " | ".join(cells) + " |")


def main():
    folder = pathlib.Path(sys.argv[1])
    summaries = {
        name.replace("_", " "): json.loads((folder / name / "summary.json").read_text())
        for name in sys.argv[2:]
    }
    first = next(iter(summaries.values()))
    print(f"Model: `{first['model'][:40]}…`, cistron {first['tool_version']}.\n")
    print("Percentages of bases at codon positions 1 / 2 / 3 where a chunk starts:\n")
    print(
        "| genome | GC, % | stage | strand | bases a chunk | model | random order | shuffled bases |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, summary in summaries.items():
        phases(name, summary)
    print("\nStage 1, forward strand: percentages of bases where a chunk starts, with 95 % intervals:\n")
    marks(summaries, 0, "rate")
    if len(first["survey"][0]["stages"]) > 1:
        print(
            "\nStage 2, forward strand: percentages of the boundaries of stage 1 that are"
            " boundaries of stage 2:\n"
        )
        marks(summaries, 1, "selected")


main()
