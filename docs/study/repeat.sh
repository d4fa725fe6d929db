#!/usr/bin/env bash
# The study of this page, from nothing to its tables and figures: docs/study/repeat.sh FOLDER [RANKS]
# Every command goes on from where it was stopped.
set -euo pipefail
root=$1 ranks=${2:-$(nproc)}
study=docs/study/study.toml
zbl='training.baseline.zbl=[2.0,4.0]'
charges='training.baseline.charges={Na=1,Cl=-1}'
on_ranks() { OMP_NUM_THREADS=1 mpirun -n "$ranks" python -m "$@"; }

# One pool and its data sets; each potential's folder has them by hard links.
on_ranks mlsel.generate $study -o "$root/bare"
on_ranks mlsel.selection $study -o "$root/bare"
for name in zbl charges large; do
  mkdir -p "$root/$name"
  cp -aln "$root/bare/pool.h5" "$root/bare/runs" "$root/bare/data" "$root/$name/"
done

# Test frames of MD runs that nobody trained on: the same states, other seeds.
fresh=(--set pool.seed=2 --set pool.frames_per_run=64 --set selection.seeds=1 --set selection.n_train=1
       --set selection.n_validation=0 --set selection.n_test=2000 --set 'selection.methods=["random"]')
on_ranks mlsel.generate $study -o "$root/fresh" "${fresh[@]}"
on_ranks mlsel.selection $study -o "$root/fresh" "${fresh[@]}"

for name in bare zbl charges large; do
  case $name in
    bare) options=() ;;
    zbl) options=(--set "$zbl") ;;
    charges) options=(--set "$zbl" --set "$charges") ;;
    large) options=(--set 'training.schnet.sizes=["large"]' --set selection.seeds=1) ;;
  esac
  on_ranks mlsel.training $study -o "$root/$name" "${options[@]}"
  on_ranks mlsel.evaluate $study -o "$root/$name" "${options[@]}" --test "$root/fresh/data/test.h5"
  [ $name = large ] && continue
  on_ranks mlsel.evaluate $study -o "$root/$name" "${options[@]}" --test "$root/fresh/data/test.h5" --probe
  on_ranks mlsel.validate $study -o "$root/$name" "${options[@]}"
done

# Methods beyond the paper's, from a pool of 200 frames a run.
own=(--set pool.frames_per_run=200 --set pool.pair_energies=true --set selection.n_test=400
     --set 'selection.methods=["random","force","flat-force","fps","force-fps","entropy","cur","set-cover","network-distillation","pair-energy"]'
     --set 'training.kinds=["schnet"]')
own+=(--set "$zbl" --set "$charges")
for stage in generate selection training; do on_ranks mlsel.$stage $study -o "$root/own/charges" "${own[@]}"; done
on_ranks mlsel.evaluate $study -o "$root/own/charges" "${own[@]}" --test "$root/fresh/data/test.h5"

python docs/study/tables.py "$root"
python docs/study/draw.py
python docs/study/page.py
