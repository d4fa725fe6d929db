# What differs between clusters. Every job reads this file, and so does `mlsel slurm`.

# What sbatch is told for all jobs ("INPUT ENVIRONMENT VARIABLES" in man sbatch); it overrides the
# lines "#SBATCH" of the job scripts. Nothing set: the cluster's defaults.
# export SBATCH_ACCOUNT=chem42
# export SBATCH_PARTITION=compute
# export SBATCH_QOS=normal
# export SBATCH_TIMELIMIT=12:00:00     # one limit for all jobs, in place of each script's own

# More for the jobs that train networks, which compute on a GPU where there is one. Empty: on CPUs.
GPU_OPTIONS=""
# GPU_OPTIONS="--partition=gpu --gres=gpu:1 --cpus-per-task=8"

# Elements of an array that may run at a time. Empty: as many as there is room for.
ARRAY_LIMIT=""

# The environment that has mlsel: modules, then its Python.
# module purge
# module load gcc/12
# source "$HOME/mlsel/.venv/bin/activate"

# How ranks are started: with the mpirun of mlsel's environment, or with srun.
LAUNCHER="mpirun -n $SLURM_NTASKS"
# LAUNCHER="srun --mpi=pmi2 --cpu-bind=cores"
