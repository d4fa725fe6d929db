"""Commands that make one product, killed at counted operations and their writes refused: import,
export, pack, check, label, selection from a pool, report, figures, builds. All points are tried."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mlsel.__main__ import main
from mlsel.core import native
from mlsel.core.files import write_text
from mlsel.pool.writer import PoolWriter
from mlsel.report.stage import write_report
from tests.support import run_mlsel
from tests.support.crash_points import Trial, Work, at_the_kth, contents
from tests.support.training_data import frames, write_pool

LABELLER = "ase:ase.calculators.lj:LennardJones"


def words(*given: str | Path) -> Work:
    """Return a command as a user gives it."""
    return partial(main, [str(word) for word in given])


def imported(folder: Path) -> Work:
    source = folder.parent / "in.extxyz"
    if not source.exists():
        pool = write_pool(folder.parent / "pool.h5", [frames(8)])
        main(["export", str(pool), str(source)])
    return words("import", source, folder / "new.h5", "--force")


def exported(name: str, folder: Path, *more: str) -> Work:
    pool = write_pool(folder.parent / "pool.h5", [frames(8)])
    return words("export", pool, folder / name, "--force", *more)


def packed(folder: Path) -> Work:
    pool = write_pool(folder.parent / "pool.h5", [frames(8)])
    return words("pack", pool, folder / "packed.h5", "--force")


def checked(folder: Path) -> Work:
    pool = write_pool(folder.parent / "pool.h5", [frames(8), frames(8)])
    out = "--write-exclude", folder / "exclude.txt", "--drop", folder / "left.h5"
    return words("check", pool, *out, "--force")


def unlabelled(path: Path, n: int) -> Path:
    """Write frames without labels."""
    part = frames(n)
    with PoolWriter(path) as writer:
        run = writer.add_run("run", part.numbers, n, ["positions"], {}, orthogonal=False)
        run.append(range(n), np.zeros(n), positions=part.positions, cell=part.cell)
    return path


def labelled(folder: Path) -> Work:
    pool = unlabelled(folder.parent / "bare.h5", 7)
    return words("label", pool, "-o", folder / "labelled.h5", "--with", LABELLER)


def selected(folder: Path) -> Work:
    pool = write_pool(folder.parent / "pool.h5", [frames(30)])
    out = "--method", "force", "-n", "5", "-o", folder / "chosen.h5"
    return words("selection", "--pool", pool, *out)


def reported(folder: Path) -> Work:
    (folder / "evaluation").mkdir()
    rows = (f"{name},pair,pair,all,all,force_component,eV/Å,300,1.5,0.09,0.05" for name in "ab")
    head = "dataset,model,kind,part,element,quantity,unit,n,max,rmse,mae"
    (folder / "evaluation" / "errors.csv").write_text("\n".join([head, *rows, ""]))
    return lambda: write_report(folder)


def drawn(folder: Path) -> Work:
    pool = write_pool(folder.parent / "pool.h5", [frames(30)])
    return words("figure", "pool", pool, "-o", folder / "pool.svg")


def tabled(folder: Path) -> Work:
    pool = write_pool(folder.parent / "pool.h5", [frames(30)])
    out = folder / "figure"
    return words("figure", "distributions", "--pool", pool, pool, "-o", out)


COMMANDS: dict[str, Callable[[Path], Work]] = {
    "import": imported,
    "export-xyz": partial(exported, "x.xyz"),
    "export-xyz.gz": partial(exported, "x.xyz.gz"),
    "export-traj": partial(exported, "x.traj"),
    "export-deepmd": lambda folder: exported("deepmd", folder, "--for", "deepmd"),
    "export-n2p2": lambda folder: exported("input.data", folder, "--for", "n2p2"),
    "pack": packed,
    "check": checked,
    "label": labelled,
    "selection": selected,
    "report": reported,
    "figure-pool": drawn,
    "figure-distributions": tabled,
}
SLOW = ("figure-pool", "figure-distributions", "report")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in COMMANDS]
)
def test_a_command(name: str, tmp_path: Path) -> None:
    trial = Trial(COMMANDS[name], tmp_path)
    assert trial.kills() >= len(trial.points) >= 1
    assert trial.refusals() >= 2 * len(trial.writes)


def test_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two files; what a killed one left goes with the next."""

    def begin(place: Path) -> Work:
        monkeypatch.setenv(native.CACHE_VARIABLE, str(place))

        def make(folder: Path) -> None:
            for name in ("a", "b"):
                write_text(folder / name, name)

        def work() -> None:
            native.build_once("kind", "name", make, force=True)

        work()
        return work

    trial = Trial(begin, tmp_path)
    assert trial.kills() >= 2 and trial.refusals() >= 8


@pytest.mark.slow
def test_labels_of_one_part_and_of_another(tmp_path: Path) -> None:
    """At some operations of a part another job asks for the same, which is refused, and one does
    the other part."""
    pool = unlabelled(tmp_path / "bare.h5", 4)
    given = ["label", str(pool), "--with", LABELLER]
    alone = tmp_path / "alone"
    assert main([*given, "-o", str(alone / "x.h5")]) == 0
    for k in (1, 60, 10**6):
        place = tmp_path / f"both-{k}"
        mine: list[str | Path] = [*given, "-o", place / "x.h5", "--part"]

        def meanwhile(mine: list[str | Path] = mine) -> None:
            same = run_mlsel(*mine, "1/2")
            assert same.returncode == 2 and "another job works in" in same.stderr, same.stderr
            done = run_mlsel(*mine, "2/2")
            assert done.returncode == 0, done.stderr

        n = at_the_kth(k, meanwhile, words(*mine, "1/2"))
        if n < k:  # it never came to it: the other part comes after this one
            assert run_mlsel(*mine, "2/2").returncode == 0
        assert contents(place) == contents(alone), f"{k} of {n}"
