# What all jobs do; each script reads it first.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/site.sh"

# The scripts ask Slurm for SIGTERM some time before the limit ("#SBATCH --signal"). mlsel then goes
# to its next checkpoint and ends with code 75, and the job asks to be queued again: it goes on from
# there, under the same number, and jobs that depend on it keep waiting. (What mlsel gets is SIGUSR1:
# srun takes SIGTERM for an order to kill.)
stage() {
    echo "$(date '+%F %T') $SLURM_JOB_NAME, job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST"
    "$@" &
    local child=$! code=0
    trap 'echo "$(date "+%F %T") asked to stop"; kill -USR1 "$child" 2>/dev/null' TERM
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"    # the signal interrupts it
    done
    trap - TERM
    wait "$child"
    code=$?
    [ "$code" = 75 ] || return "$code"
    # scancel sends SIGTERM too, and means it; Slurm then says COMPLETING.
    if [[ $(scontrol show job "$SLURM_JOB_ID") != *JobState=RUNNING* ]]; then
        echo "$(date '+%F %T') stopped at a checkpoint; the job was ended, submit it again to go on"
    else
        echo "$(date '+%F %T') stopped at a checkpoint; queued again"
        scontrol requeue "$SLURM_JOB_ID" || echo "This cluster does not requeue: submit the job again."
    fi
    return "$code"
}

# The study's folder, from the arguments of a stage: what follows -o, else the study's name.
study_folder() {
    local study="" folder=""
    while [ $# -gt 0 ]; do
        case $1 in
            -o | --output) folder=$2; shift ;;
            --set) shift ;;
            -*) ;;
            *) study=$1 ;;
        esac
        shift
    done
    echo "${folder:-$(basename "${study:-paper}" .toml)}"
}
