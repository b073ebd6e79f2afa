#!/usr/bin/env bash
# Trains GeneBERT and its controls at equal compute on the packaged data recipe DATA, and judges
# them on the cell types held back (where there are some) and on a packaged bench:
#   benchmarks/regions.sh DATA STEPS "SEEDS" OUT [BENCH [OPTION...]]
# e.g. benchmarks/regions.sh human-chr20-21-regions 800 "0 1" results/human regulatory
# The controls are the published kind and the plus recipe without each of its terms; each gets as
# many steps as spend the FLOPs of STEPS steps of the whole. Two arms train at a time, one thread
# each. What is complete in OUT is kept.
set -euo pipefail
data=$1 steps=$2 seeds=$3 out=$4 bench=${5:-}
shift 4
[ $# = 0 ] || shift
whole=genebert-plus-tiny
arms=("$whole" genebert-paper-tiny)
for term in masked match contrast regions motifs; do arms+=("$whole-without-$term"); done
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
mkdir -p "$out"
cislens data regions "$data" --out "$out/store" >"$out/store.log"

train() { # OUT ARM SEED OPTION...
  local out=$1 arm=$2 seed=$3 recipe=${2%-without-*} part=()
  shift 3
  if [ "$recipe" != "$arm" ]; then part=(--without "${arm#*-without-}"); fi
  cislens train "$recipe" "${part[@]}" --store "$out/store" "$@" --seed "$seed" \
    --out "$out/$arm-$seed" >"$out/$arm-$seed.log" 2>&1
}
export -f train
for seed in $seeds; do echo "$out $whole $seed --steps $steps"; done |
  xargs -P 2 -L 1 bash -c 'train "$@"' train
for arm in "${arms[@]:1}"; do
  for seed in $seeds; do echo "$out $arm $seed --match $out/$whole-$seed"; done
done | xargs -P 2 -L 1 bash -c 'train "$@"' train

judged=() runs=()
for arm in "${arms[@]}"; do
  short=${arm#genebert-}
  short=${short/-tiny/}
  folders=""
  for seed in $seeds; do
    folders+="${folders:+,}$out/$arm-$seed"
    runs+=(--run "$short-$seed=$out/$arm-$seed")
  done
  judged+=("$short=$folders")
done
if cislens evaluate "${judged[@]}" --store "$out/store" --out "$out/cells" --dry-run >/dev/null; then
  cislens evaluate "${judged[@]}" --store "$out/store" --out "$out/cells"
fi
if [ -n "$bench" ]; then
  cislens bench "$bench" "${runs[@]}" --out "$out/bench" "$@"
fi
