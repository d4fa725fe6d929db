"""A Slurm for the tests of this folder; without its programs they are skipped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, why_absent


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster of one node."""
    reason = why_absent()
    if reason:
        pytest.skip(reason)
    # SIGTERM would end pytest without ending the cluster.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Cluster(tmp_path_factory.mktemp("cluster")) as running:
            yield running
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """The job scripts, as a user of a cluster of two cores would edit them."""
    from mlsel.workflow.slurm import write_scripts

    folder = tmp_path / "slurm"
    write_scripts(folder)
    for path in folder.glob("*.sbatch"):
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("#SBATCH --ntasks="):
                n = 2 if path.stem in ("generate", "select", "evaluate") else 1
                line = f"#SBATCH --ntasks={n}"
            if not line.startswith("#SBATCH --mem"):
                kept.append(line)
        path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder
