#!/usr/bin/env bash
# Every data set of docs/src/results.md: the model beside its baselines.
#
#   scripts/results.sh DATA OUT [OPTIONS of cistron...]
#
# DATA holds dms/, essentiality/, genomes/ and vcf/; OUT gets one JSON file a data set and
# results.md. CISTRON names the binary, LIMIT the rows, genes and records that are scored of each
# (0: all), MODEL the model, ONLY a pattern of names to run. What is there already is not run again.
set -euo pipefail

data=$1
out=$2
shift 2
cistron=${CISTRON:-cistron}
limit=${LIMIT:-0}
model=${MODEL:-nano}
mkdir -p "$out/input"

limit_rows=() limit_genes=()
if [ "$limit" != 0 ]; then
  limit_rows=(--max-variants "$limit")
  limit_genes=(--max-genes "$limit")
fi
options=("$@")

run() { # name, arguments
  local name=$1
  shift
  [[ $name == ${ONLY:-*} ]] || return 0
  [ -s "$out/$name.json" ] && return 0
  echo "$name" >&2
  if ! "$cistron" -q "${options[@]}" "$@" --model "$model" --json >"$out/$name.json.tmp"; then
    rm -f "$out/$name.json.tmp"
    echo "$name: failed" >&2
    return 0
  fi
  mv "$out/$name.json.tmp" "$out/$name.json"
}

dms() { # name, table, arguments
  local name=$1 table=$2
  shift 2
  run "dms-$name" score dms --dms "$table" "${limit_rows[@]}" "$@"
}

d=$data/dms
g=$data/genomes
kpn=$g/Klebsiella_pneumoniae_HS11286.fna.gz
pao=$g/Pseudomonas_aeruginosa_PAO1.fna.gz
eco=$g/Escherichia_coli_K12_MG1655

# ProteinGym tables whose coding sequence is known: alone, in the genome, and over all codons.
for name in BLAT_ECOLX_Stiffler_2015 BLAT_ECOLX_Firnberg_2014 BLAT_ECOLX_Jacquier_2013 \
  BLAT_ECOLX_Deng_2012 AMIE_PSEAE_Wrenbeck_2017; do
  case $name in
    BLAT*) genome=$kpn ;;
    *) genome=$pao ;;
  esac
  dms "$name" "$d/$name.csv.gz" --cds "$d/target_cds.fna" --background "$genome"
  dms "$name-genome" "$d/$name.csv.gz" --cds "$d/target_cds.fna" --fasta "$genome" --circular all
  dms "$name-mean" "$d/$name.csv.gz" --cds "$d/target_cds.fna" --background "$genome" --codon mean
done

# ProteinGym tables without one: translated back.
for name in A4GRB6_PSEAI_Chen_2020 Q59976_STRSQ_Romero_2015; do
  dms "$name" "$d/$name.csv.gz" --background "$pao"
done

# Stiffler's raw table, at its highest dose of ampicillin.
dms BLAT_ECOLX_Ranganathan2015 "$d/BLAT_ECOLX_Ranganathan2015.csv.gz" --cds "$d/target_cds.fna" \
  --background "$kpn" --score-column 2500

# Multiple mutants. The protein of Bgl3 is that of its ProteinGym table.
unpack() { zcat "$1"; }
unpack "$d/Q59976_STRSQ_Romero_2015.csv.gz" | awk -F, 'NR == 2 {
  n = substr($1, 2, length($1) - 2)
  print ">Bgl3\n" substr($2, 1, n - 1) substr($1, 1, 1) substr($2, n + 1)
}' >"$out/input/bgl3.faa"
dms bgl3_Romero2015_multimutant "$d/bgl3_Romero2015_multimutant.tsv.gz" \
  --protein "$out/input/bgl3.faa" --background "$pao"
unpack "$d/ProteinGym_DMS_substitutions_reference.csv.gz" | awk -F, '/GFP_AEQVI/ {
  for (i = 1; i <= NF; i++) if (length($i) > 200 && $i ~ /^M[A-Z]+$/) { print ">GFP\n" $i; exit }
}' >"$out/input/gfp.faa"
dms avgfp_Sarkisyan2016_multimutant "$d/avgfp_Sarkisyan2016_multimutant.tsv.gz" \
  --protein "$out/input/gfp.faa" --background "$eco.fna.gz"

# GB1: the letters of sites 39, 40, 41 and 54.
unpack "$d/gb1_Wu2016_four_sites.csv.gz" | awk -F, 'BEGIN {
  split("39 40 41 54", site, " "); split("V D G V", wild, " "); print "mutant\tscore"
} NR > 1 {
  m = ""
  for (i = 1; i <= 4; i++) {
    to = substr($1, i, 1)
    if (to != wild[i]) m = m (m == "" ? "" : ":") wild[i] site[i] to
  }
  print (m == "" ? "WT" : m) "\t" $5
}' | gzip >"$out/input/gb1.tsv.gz"
printf '>GB1\nMQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE\n' >"$out/input/gb1.faa"
dms gb1_Wu2016_four_sites "$out/input/gb1.tsv.gz" --protein "$out/input/gb1.faa" \
  --background "$eco.fna.gz"

# The coat protein of MS2, of which the table lacks two residues.
printf '>MS2\n%s%s\n' MASNFTQFVLVDNGGTGDVTVAPSNFANGVAEWISSNSRSQAYKVTCSVRQSSAQNRKYTIKVEVPK \
  VATQTVGGVELPVAAWRSYLNMELTIPIFATNSDCELIVKAMQGLLKDGNPIPSAIAANSGIY >"$out/input/ms2.faa"

# Dunham's wide tables: a row a position, a column an amino acid.
for study in $(unpack "$d/dunham2021_normalised_scores_prokaryotic.tsv.gz" | awk 'NR > 1 { print $1 }' | sort -u); do
  unpack "$d/dunham2021_normalised_scores_prokaryotic.tsv.gz" | awk -F'\t' -v study="$study" '
    NR == 1 { for (i = 5; i <= NF; i++) name[i] = $i; print "mutant\tscore" }
    $1 == study { for (i = 5; i <= NF; i++) if (name[i] != $4 && $i != "" && $i != "NA") print $4 $3 name[i] "\t" $i }
  ' >"$out/input/dunham_$study.tsv"
  case $study in
    kelsic*) cds=(--cds "$d/target_cds.fna" --background "$eco.fna.gz") ;;
    steinberg*) cds=(--cds "$d/target_cds.fna" --background "$kpn") ;;
    wrenbeck*) cds=(--cds "$d/target_cds.fna" --background "$pao") ;;
    olson*) cds=(--protein "$out/input/gb1.faa" --background "$eco.fna.gz") ;;
    hartman*) cds=(--protein "$out/input/ms2.faa" --background "$eco.fna.gz") ;;
    *) cds=(--background "$eco.fna.gz") ;;
  esac
  dms "dunham_$study" "$out/input/dunham_$study.tsv" "${cds[@]}"
done

# The lac promoter: expression is the mean bin. Alone, and in its place in the genome.
unpack "$d/lac_promoter_sortseq_Kinney2010.csv.gz" | awk -F, 'NR == 1 { print "x\texpression"; next } {
  n = s = 0
  for (i = 2; i <= 11; i++) { n += $i; s += $i * (i - 2) }
  if (n > 0) print $12 "\t" s / n
}' | gzip >"$out/input/lac.tsv.gz"
dms lac_promoter_sortseq_Kinney2010 "$out/input/lac.tsv.gz" --sequence-column x \
  --score-column expression --background "$eco.fna.gz"

# Essentiality.
e=$data/essentiality
mtb=$g/Mycobacterium_tuberculosis_H37Rv
genes() { # name, genome, arguments
  local name=$1 genome=$2
  shift 2
  run "genes-$name" score genes --fasta "$genome.fna.gz" --gff "$genome.gff3.gz" \
    --circular all "${limit_genes[@]}" "$@"
}
keio=(--labels "$e/ecoli_K12_MG1655_essentiality.tsv.gz" --label-column keio_baba2006_essential
  --positive 1 --negative 0)
tradis=(--labels "$e/ecoli_K12_MG1655_essentiality.tsv.gz" --label-column tradis_goodall2018_call
  --positive essential --negative non-essential)
dejesus=(--labels "$e/mtb_H37Rv_essentiality_DeJesus2017.tsv.gz" --label-column final_call
  --positive ES,ESD --negative NE,GA)
genes ecoli-keio "$eco" "${keio[@]}" --supervised
for how in replace insert every; do
  genes "ecoli-tradis-$how" "$eco" "${tradis[@]}" --knockout "$how"
  genes "mtb-dejesus-$how" "$mtb" "${dejesus[@]}" --knockout "$how"
done
full=$(cd "$data" && pwd)
{
  printf 'name\tfasta\tgff\tlabels\tlabel_column\tpositive\tnegative\n'
  printf 'ecoli\t%s.fna.gz\t%s.gff3.gz\t%s\ttradis_goodall2018_call\tessential\tnon-essential\n' \
    "$full/genomes/Escherichia_coli_K12_MG1655" "$full/genomes/Escherichia_coli_K12_MG1655" \
    "$full/essentiality/ecoli_K12_MG1655_essentiality.tsv.gz"
  printf 'mtb\t%s.fna.gz\t%s.gff3.gz\t%s\tfinal_call\tES,ESD\tNE,GA\n' \
    "$full/genomes/Mycobacterium_tuberculosis_H37Rv" \
    "$full/genomes/Mycobacterium_tuberculosis_H37Rv" \
    "$full/essentiality/mtb_H37Rv_essentiality_DeJesus2017.tsv.gz"
} >"$out/input/sheet.tsv"
run genes-both-supervised score genes --sheet "$out/input/sheet.tsv" --circular all --supervised \
  "${limit_genes[@]}"

# One table of all.
python3 "$(dirname "$0")/results_table.py" "$out" >"$out/results.md"
cat "$out/results.md"
