#!/usr/bin/env bash
# Trains GeneBERT and its controls at equal compute on the packaged data recipe DATA, and judges
# them on the cell types held back (where there are some) and on a packaged bench:
#   benchmarks/regions.sh DATA STEPS "SEEDS" OUT [BENCH [TASKS...]]
# e.g. benchmarks/regions.sh human-chr20-21-regions 800 "0 1" results/human regulatory
# The controls are the plus recipe without each of its terms; each gets as many steps as spend the
# FLOPs of STEPS steps of the whole. Two arms train at a time, one thread each. What is complete in
# OUT is kept.
set -euo pipefail
data=$1 steps=$2 seeds=$3 out=$4 bench=${5:-}
shift 4
[ $# = 0 ] || shift
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
mkdir -p "$out"
cislens data regions "$data" --out "$out/store" >"$out/store.log"
[ -s "$out/arms.txt" ] || python "$(dirname "$0")/equal_compute.py" genebert-plus-tiny \
  --store "$out/store" --steps "$steps" --beside genebert-paper-tiny >"$out/arms.txt"

train() { # OUT ARM STEPS SEED
  local recipe=${2%-without-*} part=()
  if [ "$recipe" != "$2" ]; then part=(--without "${2#*-without-}"); fi
  cislens train "$recipe" "${part[@]}" --store "$1/store" --steps "$3" --seed "$4" \
    --out "$1/$2-$4" >"$1/$2-$4.log" 2>&1
}
export -f train
for seed in $seeds; do
  while read -r arm count _; do echo "$arm $count $seed"; done <"$out/arms.txt"
done | xargs -P 2 -L 1 bash -c 'train "$0" "$1" "$2" "$3"' "$out"

arms=() runs=()
while read -r arm _; do
  short=${arm#genebert-}
  short=${short/-tiny/}
  folders=""
  for seed in $seeds; do
    folders+="${folders:+,}$out/$arm-$seed"
    runs+=(--run "$short-$seed=$out/$arm-$seed")
  done
  arms+=("$short=$folders")
done <"$out/arms.txt"
if cislens evaluate "${arms[@]}" --store "$out/store" --out "$out/cells" --dry-run >/dev/null; then
  cislens evaluate "${arms[@]}" --store "$out/store" --out "$out/cells"
fi
if [ -n "$bench" ]; then
  cislens bench "$bench" "${runs[@]}" --out "$out/bench" "$@"
fi
