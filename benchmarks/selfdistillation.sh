#!/usr/bin/env bash
# Trains FinDNA-plus on the packaged genomes DATA and its controls at equal compute, and judges
# them, and their random twins, on a packaged bench:
#   benchmarks/selfdistillation.sh DATA STEPS "SEEDS" OUT [BENCH [OPTION...]]
# e.g. benchmarks/selfdistillation.sh yeasts 1500 "0 1 2" results/yeasts selfdistillation
# Arms: hidden bases and self-distillation (both), either alone, and both beside measured tracks
# where there is a data recipe DATA-8bp, with parts that both stores share. Each
# control gets as many steps as spend the FLOPs of STEPS steps of the first. Two arms train at a
# time, one thread each. What is complete in OUT is kept.
set -euo pipefail
data=$1 steps=$2 seeds=$3 out=$4 bench=${5:-}
shift 4
[ $# = 0 ] || shift
# Name in the bench -> packaged training recipe.
declare -A recipes=([both]=findna-plus-tiny [masked]=masked-tiny [distilled]=distilled-tiny)
controls=(masked distilled)
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
mkdir -p "$out"

packaged=$(python -c 'import cislens.recipes as r, pathlib; print(pathlib.Path(r.__file__).parent)')
parts=()
if [ -e "$packaged/data/$data-8bp.yaml" ]; then
  cislens data profile "$data-8bp" --out "$out/profile" >"$out/profile.log"
  parts=(--parts-of "$out/profile")
  recipes[profile]=findna-profile-tiny
  controls+=(profile)
fi
cislens data sequence "$data-sequence" "${parts[@]}" --out "$out/store" >"$out/store.log"

train() { # OUT ARM RECIPE SEED OPTION...
  local out=$1 arm=$2 recipe=$3 seed=$4 stores=(--store "$1/store")
  shift 4
  if [ "$arm" = profile ]; then stores+=(--store "profile=$out/profile"); fi
  cislens train "$recipe" "${stores[@]}" "$@" --seed "$seed" --out "$out/$arm-$seed" \
    >"$out/$arm-$seed.log" 2>&1
}
export -f train
for seed in $seeds; do echo "$out both ${recipes[both]} $seed --steps $steps"; done |
  xargs -P 2 -L 1 bash -c 'train "$@"' train
for arm in "${controls[@]}"; do
  for seed in $seeds; do echo "$out $arm ${recipes[$arm]} $seed --match $out/both-$seed"; done
done | xargs -P 2 -L 1 bash -c 'train "$@"' train

if [ -n "$bench" ]; then
  runs=()
  for arm in both "${controls[@]}"; do
    for seed in $seeds; do runs+=(--run "$arm-$seed=$out/$arm-$seed"); done
  done
  cislens bench "$bench" "${runs[@]}" --out "$out/bench" "$@"
fi
