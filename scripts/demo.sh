#!/usr/bin/env bash
# The whole path on a real genome: FASTA -> trained model -> evaluation, scored VCF, tracks.
#
#   demo.sh [FOLDER]     output folder [default: demo]
#   CISTRON=...          the command to run [default: as built by cargo]
#   MINUTES=3            time to train
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/demo}
minutes=${MINUTES:-3}
data=$root/data/demo
if [ -z "${CISTRON:-}" ]; then
    target=$(cd "$root" && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    CISTRON=$target/debug/cistron
fi

began=$(date +%s)
step() {
    printf '\n== %s (%d s)\n' "$1" $(($(date +%s) - began))
}
run() {
    printf '$ cistron %s\n' "$*" | sed "s|$root/||g"
    "$CISTRON" "$@"
}

mkdir -p "$out"

step "Packing E. coli K-12 MG1655 to train on; N. gonorrhoeae FA6140 is held out"
run corpus build --force --out "$out/corpus" --val ngonorrhoeae_FA6140 \
    "$data/ecoli_MG1655.fna.gz" "$data/ngonorrhoeae_FA6140.fna.gz"

step "Training a two-stage H-Net for $minutes minutes"
run pretrain --force --config "$root/configs/demo.toml" --corpus "$out/corpus" --out "$out/run" \
    --set "schedule.max_minutes=$minutes"

step "Evaluating it on the held-out genome, beside Markov chains fitted to the same training genome"
run eval lm --model "$out/run/model" --corpus "$out/corpus" --max-bases 300000 \
    --plot "$out/eval.svg" --force "$data/ngonorrhoeae_FA6140.fna.gz" | tee "$out/eval.tsv"

step "Scoring the variants of E. coli DH1"
run score vcf --force --fasta "$data/ecoli_MG1655.fna.gz" --circular all --model "$out/run/model" \
    "$data/ecoli_DH1.vcf.gz" --output "$out/ecoli_DH1.scored.vcf.gz" --write-index

step "Writing chunk tracks of phage lambda"
run tracks --force --fasta "$data/lambda.fna.gz" --model "$out/run/model" --out "$out/tracks"

step "Done"
cat <<EOF
Made in ${out#"$root"/}:
  corpus/                       both genomes, 2 bits a base
  run/model/                    the trained model (config.json, model.safetensors, README.md)
  run/plots/loss.svg            training and validation loss; run/metrics.jsonl has every step
  eval.tsv, eval.svg            bits per base of the held-out genome beside Markov chains
  ecoli_DH1.scored.vcf.gz       the VCF with CIS_LLR and CIS_STATUS, and its tabix index
  tracks/stage1.fwd.boundary.bw where chunks start: open with data/demo/lambda.fna.gz in IGV or JBrowse 2
  tracks/*.chunks.bed.gz        the chunks themselves, per stage and strand

Look at it:
  bcftools query -f '%POS %REF %ALT %CIS_LLR\n' ${out#"$root"/}/ecoli_DH1.scored.vcf.gz | sort -k4,4g | head
  cistron generate --model ${out#"$root"/}/run/model --prompt ATGAAA --length 300
EOF
