#!/usr/bin/env bash
# Trains every arm on the packaged data recipe DATA and judges its tracks on the test part:
#   benchmarks/tracks.sh DATA STEPS "SEEDS" OUT [ARM...]
# e.g. benchmarks/tracks.sh yeasts 1000 "0 1" results/yeasts
# An arm is RECIPE or RECIPE-without-PART; the first one is what the others are held against.
# Two arms train at a time, one thread each. What is complete in OUT is kept; the scores are in
# OUT/evaluation-SEEDS.
set -euo pipefail
data=$1 steps=$2 seeds=$3 out=$4
shift 4
arms=("$@")
if [ ${#arms[@]} = 0 ]; then
  arms=(space-plus-tiny space-plus-tiny-without-experts basenji-tiny)
fi
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
mkdir -p "$out"
cislens data profile "$data" --out "$out/store" >"$out/store.log"

train() { # ARM SEED STEPS OUT
  local recipe=${1%-without-*} part=()
  if [ "$recipe" != "$1" ]; then part=(--without "${1#*-without-}"); fi
  cislens train "$recipe" "${part[@]}" --store "$4/store" --steps "$3" --seed "$2" \
    --out "$4/$1-$2" >"$4/$1-$2.log" 2>&1
}
export -f train
for seed in $seeds; do
  for arm in "${arms[@]}"; do echo "$arm $seed"; done
done | xargs -P 2 -L 1 bash -c 'train "$2" "$3" "$0" "$1"' "$steps" "$out"

given=()
for arm in "${arms[@]}"; do
  runs=""
  for seed in $seeds; do runs+="${runs:+,}$out/$arm-$seed"; done
  given+=("$arm=$runs")
done
cislens evaluate "${given[@]}" --store "$out/store" --out "$out/evaluation-${seeds// /-}"
