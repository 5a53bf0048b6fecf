#!/usr/bin/env bash
# Trains heads on deep mutational scans and writes the table of docs/src/heads.md.
#
# usage: scripts/heads-results.sh DATA OUT
#
# DATA holds the tables (see docs/src/heads.md for where they come from), OUT gets a folder for each
# run, results.tsv and results.md. A run that is there already is not repeated.
#
#   CISTRON   the binary                     [target/debug/cistron]
#   JOBS      runs at a time                 [1]
#   THREADS   threads of each                [2]
#   DEVICE    where networks train          [cpu]
#   SEEDS     seeds                          ["1 2 3"]
#   FOLDS     folds of scans: numbers, all, or `seed` for one each, the first with seed 1   [all]
#   BASELINES what is trained beside        [all]
#   ONLY      regular expression over names  [all]
set -euo pipefail
data=$1
out=$2
cistron=${CISTRON:-target/debug/cistron}
mkdir -p "$out/tables"
export cistron data out THREADS=${THREADS:-2} DEVICE=${DEVICE:-cpu}

# What the tables lack: wild types, and the mean bin of the lac promoter's reads.
target() {
    zcat "$data/ProteinGym_DMS_substitutions_reference.csv.gz" |
        grep -o "$1,[^,]*,[^,]*,[^,]*,[^,]*,[A-Z]\{50,\}" | head -1 | sed 's/.*,//'
}
gfp=$out/tables/gfp.fa
bgl3=$out/tables/bgl3.fa
lac=$out/tables/lac.tsv
[ -s "$gfp" ] || printf '>GFP\n%s\n' "$(target GFP_AEQVI_Sarkisyan_2016)" >"$gfp"
[ -s "$bgl3" ] || printf '>Bgl3\n%s\n' "$(target Q59976_STRSQ_Romero_2015)" >"$bgl3"
[ -s "$lac" ] || zcat "$data/lac_promoter_sortseq_Kinney2010.csv.gz" | awk -F, '
    NR == 1 { print "set\ty\tx"; next }
    { n = s = 0; for (i = 2; i <= 11; i++) { n += $i; s += (i - 2) * $i }
      if (n) printf "%s\t%.6f\t%s\n", $1, s / n, $12 }' >"$lac"

# name, then arguments
list() {
    local scan='--sequence-column mutated_sequence --mutant-column mutant --target-column DMS_score'
    local gb1="--table $data/gb1_Wu2016_four_sites.csv.gz --sequence-column sequence --target-column Fitness"
    local seed variant set folds tested
    for seed in ${SEEDS:-1 2 3}; do
        tested=${FOLDS:-all}
        [ "$tested" != seed ] || tested=$((seed - 1))
        for variant in sites position lyra; do
            echo "gb1-keep:random:$variant:$seed $gb1 --where keep=True"
            for set in one two three; do
                echo "gb1:$set-vs-rest:$variant:$seed $gb1 --split-column ${set}_vs_rest --validation-column ${set}_vs_rest_validation"
            done
            echo "gb1-all:random:$variant:$seed $gb1 --choose-by r2 --epochs 18"
        done
        for variant in position lyra; do
            echo "lac:given:$variant:$seed --table $lac --sequence-column x --target-column y --split-column set"
            for set in tem1=BLAT_ECOLX_Stiffler_2015 amie=AMIE_PSEAE_Wrenbeck_2017 vim2=A4GRB6_PSEAI_Chen_2020; do
                for folds in random modulo contiguous; do
                    echo "${set%%=*}:$folds:$variant:$seed --table $data/${set#*=}.csv.gz $scan --folds $folds --test-fold $tested"
                done
            done
            echo "avgfp:random:$variant:$seed --table $data/avgfp_Sarkisyan2016_multimutant.tsv.gz --mutant-column variant --wild-type $gfp --target-column score"
            echo "bgl3:random:$variant:$seed --table $data/bgl3_Romero2015_multimutant.tsv.gz --mutant-column variant --wild-type $bgl3 --target-column score"
        done
        echo "gb1-keep:random:sites-ensemble:$seed $gb1 --where keep=True --ensemble 3"
        echo "gb1-all:random:sites-96:$seed $gb1 --choose-by r2 --epochs 18 --d-model 96"
        echo "gb1-all:random:sites-rank:$seed $gb1 --transform rank --epochs 18"
        echo "tem1:random:position-ensemble:$seed --table $data/BLAT_ECOLX_Stiffler_2015.csv.gz $scan --ensemble 5"
    done
}

one() {
    local name=$1 folder variant
    shift
    folder=$out/${name//:/_}
    [ -s "$folder.tsv" ] && return
    variant=$(cut -d: -f3 <<<"$name")
    "$cistron" head train "$@" --baselines "${BASELINES:-all}" --variant "${variant%%-*}" --seed "${name##*:}" --threads "$THREADS" \
        --device "$DEVICE" --out "$folder" --force >"$folder.tmp" 2>"$folder.log" &&
        mv "$folder.tmp" "$folder.tsv" || echo "failed: $name, see $folder.log" >&2
}
export -f one

list | grep -E "^[^ ]*${ONLY:-}" | xargs -P "${JOBS:-1}" -I LINE bash -c 'set -f; one $0' LINE || true

# set, split, variant, what: mean and deviation over seeds of Spearman and R2, mean seconds of a run
{
    printf 'set\tsplit\tvariant\tof\tparameters\tseeds\tspearman\tdeviation\tr2\tdeviation\tseconds\n'
    for file in "$out"/*.tsv; do
        [ "$file" = "$out/results.tsv" ] && continue
        name=$(basename "$file" .tsv)
        seconds=$(grep -o '"seconds": [0-9.]*' "${file%.tsv}/metrics.json" | tail -1 | cut -d' ' -f2)
        awk -F'\t' -v name="$name" -v seconds="$seconds" '
            BEGIN { split(name, part, "_") }
            NR > 1 && $1 !~ /^#/ { print part[1], part[2], part[3], $1, $2, $3, $5, seconds }' "$file"
    done | awk '
        { key = $1 "\t" $2 "\t" $3 "\t" $4 "\t" $5; if (!(key in n)) order[++count] = key
          n[key]++; s[key] += $6; ss[key] += $6 * $6; r[key] += $7; rr[key] += $7 * $7; t[key] += $8 }
        function spread(sum, square, n) { v = n > 1 ? (square - sum * sum / n) / (n - 1) : 0; return v > 0 ? sqrt(v) : 0 }
        END { for (i = 1; i <= count; i++) { k = order[i]
            printf "%s\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f\n", k, n[k], s[k] / n[k], spread(s[k], ss[k], n[k]), r[k] / n[k], spread(r[k], rr[k], n[k]), t[k] / n[k] } }'
} >"$out/results.tsv"
awk -F'\t' '{ line = "|"; for (i = 1; i <= NF; i++) line = line " " $i " |"; print line
    if (NR == 1) { line = "|"; for (i = 1; i <= NF; i++) line = line "---|"; print line } }' \
    "$out/results.tsv" >"$out/results.md"
