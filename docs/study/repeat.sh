#!/usr/bin/env bash
# The study of this page, from nothing to its tables and figures: docs/study/repeat.sh FOLDER [RANKS]
# Every command goes on from where it was stopped.
set -euo pipefail
root=$1 ranks=${2:-$(nproc)}
study=docs/study/study.toml
on_ranks() { OMP_NUM_THREADS=1 mpirun -n "$ranks" python -m "$@"; }
stages() {  # FOLDER STAGES OPTION...
  for stage in $2; do on_ranks mlsel.$stage $study -o "$1" "${@:3}"; done
}
from() {  # FOLDER PRODUCTS NEW: a new folder with these products of another, by hard links
  mkdir -p "$3"
  for product in $2; do cp -aln "$1/$product" "$3/"; done
}

# The study: one pool, its data sets, and all models.
on_ranks mlsel.run $study -o "$root/study" --until training

# Test frames of MD runs that nobody trained on: the same states, other seeds.
fresh=(--set pool.seed=2 --set pool.frames_per_run=64 --set selection.seeds=1 --set selection.n_train=1
       --set selection.n_validation=0 --set selection.n_test=2000 --set 'selection.methods=["random"]')
stages "$root/fresh" "generate selection" "${fresh[@]}"
test=(--test "$root/fresh/data/test.h5")
stages "$root/study" evaluate "${test[@]}"
stages "$root/study" evaluate "${test[@]}" --probe
stages "$root/study" validate

# Medium and large networks.
for size in medium large; do
  [ "$size" = medium ] && seeds=3 || seeds=1
  larger=(--set "training.schnet.sizes=[\"$size\"]" --set 'training.kinds=["schnet"]' --set 'training.baselines={}'
          --set selection.seeds=$seeds)
  from "$root/study" "pool.h5 runs" "$root/$size"
  stages "$root/$size" "selection training" "${larger[@]}"
  stages "$root/$size" evaluate "${larger[@]}" "${test[@]}"
  if [ "$size" = medium ]; then
    stages "$root/$size" validate "${larger[@]}" \
      --set 'validation.models=["random/*","global-energy/*","atomic-energy/*","force/*"]'
  fi
done

# What all further parts have in common: another pool, of 200 frames a run (too few for one run alone to be a set).
few=(--set pool.frames_per_run=200 --set selection.n_test=400)

# Methods beyond the paper's.
own=("${few[@]}" --set pool.pair_energies=true --set 'training.kinds=["schnet"]'
     --set 'training.baselines={charges={zbl=[2.0,4.0],charges={Na=1,Cl=-1}}}'
     --set 'selection.methods=["random","force","flat-force","fps","force-fps","entropy","cur","set-cover","network-distillation","pair-energy"]')
stages "$root/own" "generate selection training" "${own[@]}"
stages "$root/own" evaluate "${own[@]}" "${test[@]}"
stages "$root/own" validate "${own[@]}" --set 'validation.models=["random/*e0.01","force/*e0.01","fps/*e0.01","cur/*e0.01","set-cover/*e0.01","network-distillation/*e0.01"]'

# The sign of D that many public decks have by mistake: a pool and test frames of its own.
positive=(--set system.potential=nacl-tosi-fumi-positive-d)
stages "$root/positive-fresh" "generate selection" "${fresh[@]}" "${positive[@]}"
positive+=("${few[@]}" --set selection.seeds=3 --set 'training.kinds=["schnet"]' --set 'training.baselines={}'
           --set 'selection.methods=["random","global-energy","atomic-energy","force"]')
stages "$root/positive" "generate selection training" "${positive[@]}"
stages "$root/positive" evaluate "${positive[@]}" --test "$root/positive-fresh/data/test.h5"

# GAPs of 128 configurations: a term of pairs and a SOAP.
gap=("${few[@]}" --set selection.seeds=3 --set pool.pair_energies=true --set 'training.kinds=["gap"]' --set 'training.baselines={}'
     --set 'selection.methods=["random","global-energy","atomic-energy","force","cur"]' --set training.gap.two_body=true
     --set 'training.gap.n_sparse=[500]' --set training.gap.n_train=128 --set training.gap.fit=own)
from "$root/own" "pool.h5 runs" "$root/gap"
stages "$root/gap" "selection training" "${gap[@]}"
stages "$root/gap" evaluate "${gap[@]}" "${test[@]}"

python docs/study/tables.py "$root"
python docs/study/draw.py
python docs/study/page.py
