#!/usr/bin/env bash
# Makes the tables and pictures of docs/src/tracks.md anew.
#
#   scripts/tracks-docs.sh DATA [OUT]
#
# DATA holds NAME.fna.gz and NAME.gff3.gz of the genomes below; OUT takes the tracks [default:
# target/tracks-docs]. Pictures need node, Chromium and tests/browser/node_modules, which
# tests/setup.sh installs; without them the tables are made alone. CISTRON names another binary,
# GENOMES other genomes (two or more). With BASES only so many bases of each genome's first contig are
# read, and what is annotated within them: whole chromosomes take a quarter of an hour each on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: scripts/tracks-docs.sh DATA [OUT]"}
out=${2:-target/tracks-docs}
cistron=${CISTRON:-target/debug/cistron}
# Low, middling and high GC; the first is of genetic code 4.
genomes=${GENOMES:-"Mycoplasma_mycoides_capri_GM12 Streptococcus_pyogenes_M1_GAS_SF370 Escherichia_coli_K12_MG1655 Mycobacterium_tuberculosis_H37Rv"}

# The first BASES bases of a genome and its features there, under $out-input.
cut_genome() {
    mkdir -p "$out-input"
    zcat "$data/$1.fna.gz" | awk -v left="$BASES" '
        /^>/ { if (seen++) exit; print $1; next }
        { $0 = substr($0, 1, left); left -= length($0); if (length($0)) print }' >"$out-input/$1.fna"
    zcat "$data/$1.gff3.gz" | awk -F'\t' -v last="$BASES" '
        /^##gff-version/ { print; next }
        NF >= 9 && !contig { contig = $1 }
        NF >= 9 && $1 == contig && $5 <= last' >"$out-input/$1.gff3"
}

fasta=() gff=() more=(--circular all)
for genome in $genomes; do
    if [ -n "${BASES:-}" ]; then
        cut_genome "$genome"
        fasta+=("$out-input/$genome.fna") gff+=("$out-input/$genome.gff3") more=(--control 50000)
    else
        fasta+=("$data/$genome.fna.gz") gff+=("$data/$genome.gff3.gz")
    fi
done
if [ ! -f "$out/index.html" ]; then
    "$cistron" tracks --fasta "${fasta[@]}" --gff "${gff[@]}" "${more[@]}" \
        --formats bigwig,bed --genes lacZ,rpoB,dnaA -o "$out"
fi
# shellcheck disable=SC2086
python3 scripts/tracks_tables.py "$out" $genomes > docs/src/tracks-tables.md

modules=tests/browser/node_modules
if [ ! -d "$modules/playwright-core" ] || [ -n "${NO_PICTURES:-}" ]; then
    echo "no pictures: run tests/setup.sh first" >&2
    exit 0
fi
# The last is the one that is shown.
genome=${genomes##* }
"$cistron" tracks -q --serve -o "$out/$genome" --jbrowse "$modules/@jbrowse/react-app2" \
    --igv "$modules/igv" > "$out/address" &
server=$!
trap 'kill $server' EXIT
until [ -s "$out/address" ]; do sleep 0.2; done
address=$(sed 's/jbrowse.html$//' "$out/address")
look() {
    (cd tests/browser && node look.mjs "$address$1" "$2" "$OLDPWD/$out/$3.png" "$4" "$5" > /dev/null)
}
look jbrowse.html jbrowse jbrowse 1100 760
look igv.html igv igv 1100 620
look report.html report report 900 900
look report.html report telephone 360 740
python3 scripts/tracks_pictures.py "$out" docs/src/images
