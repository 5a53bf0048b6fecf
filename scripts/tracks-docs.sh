#!/usr/bin/env bash
# Makes the tables and pictures of docs/src/tracks.md anew.
#
#   scripts/tracks-docs.sh DATA [OUT]
#
# DATA holds NAME.fna.gz and NAME.gff3.gz of the genomes below; OUT takes the tracks [default:
# target/tracks-docs]. Pictures need node, Chromium and tests/browser/node_modules, which
# tests/setup.sh installs; without them the tables are made alone. CISTRON names another binary,
# GENOMES other genomes (two or more).
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?"usage: scripts/tracks-docs.sh DATA [OUT]"}
out=${2:-target/tracks-docs}
cistron=${CISTRON:-target/debug/cistron}
# Low, middling and high GC; the first is of genetic code 4.
genomes=${GENOMES:-"Mycoplasma_mycoides_capri_GM12 Streptococcus_pyogenes_M1_GAS_SF370 Escherichia_coli_K12_MG1655 Mycobacterium_tuberculosis_H37Rv"}

fasta=() gff=()
for genome in $genomes; do
    fasta+=("$data/$genome.fna.gz")
    gff+=("$data/$genome.gff3.gz")
done
if [ ! -f "$out/index.html" ]; then
    "$cistron" tracks --fasta "${fasta[@]}" --gff "${gff[@]}" --circular all \
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
