"""Ranks and processor grids agree, with the wheel's own lmp."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.support import Agreement, environment, melts
from tests.support import Tolerance

STYLES = {
    "compressed": ("schnet compressed", "{schnet64} Na Cl"),
    "torchscript": ("schnet torchscript", "{schnet64} Na Cl"),
    "painn": ("schnet torchscript", "{painn64} Na Cl"),
    "quip": ("quip", "{gap} 11 17"),
    "library": ("quip library", "{gap} 11 17"),
    "sum": ("quip", "{gap_sum} 11 17"),
}
RARE = {
    "clusters": ("quip", "{gap_clusters} 11 17"),
    "others": ("quip", "{gap_others} 11 17"),
    "turbo": ("quip", "{gap_turbo} 11 17"),
    "mixed": ("quip", "{gap_mixed} 11 17"),
}


def structures() -> dict[str, Any]:
    """A melt; a tilted one; a cluster in a corner, where most ranks have no atoms; a cell smaller
    than the cutoff."""
    from ase.build import bulk

    melt = melts()[1]
    tilted = melt.copy()
    cell = tilted.cell.array.copy()
    cell[1, 0], cell[2, 0], cell[2, 1] = 3.0, -2.0, 4.0
    tilted.set_cell(cell, scale_atoms=True)
    cluster = melt[melt.positions[:, 0] < 5.0]
    cluster.set_cell([40.0, 30.0, 30.0])
    tiny = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
    tiny.rattle(0.1, seed=3)
    return {"melt": melt, "tilted": tilted, "cluster": cluster, "tiny": tiny}


def deck(
    folder: Path, places: dict[str, Path], styles: Mapping[str, tuple[str, str]] = STYLES
) -> Path:
    """The styles with all structures; forces and per-atom values to files at full precision."""
    from ase.io import write

    lines = ["variable tag index one", "variable grid index '* * *'"]
    for name, atoms in structures().items():
        write(folder / f"{name}.data", atoms, format="lammps-data", specorder=["Na", "Cl"],
              atom_style="atomic", masses=True)  # fmt: skip
        for style, (pair_style, coeff) in styles.items():
            out = f"{style}-{name}-${{tag}}"
            lines += [
                "clear",
                "units metal",
                "box tilt large",
                "processors ${grid}",
                f"read_data {name}.data",
                f"pair_style {pair_style}",
                f"pair_coeff * * {coeff.format(**places)}",
                "compute e all pe/atom",
                "compute v all stress/atom NULL virial",
                "thermo_style custom step pe pxx pyy pzz pxy pxz pyz",
                "thermo_modify norm no",
                "run 0 post no",
                f"write_dump all custom {out}.dump id fx fy fz c_e c_v[*] modify sort id "
                "format float %.17g",
                "variable pe equal pe",
                "variable p equal pxx",
                f"print '$(v_pe:%.17g) $(v_p:%.17g)' file {out}.txt screen no",
            ]
    path = folder / "in.ranks"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_ranks_and_grids_agree(
    plugins: Path, files: dict[str, Path], gap: Path, gap_sum: Path, tmp_path: Path
) -> None:
    check_layouts(plugins, deck(tmp_path, {**files, "gap": gap, "gap_sum": gap_sum}), STYLES)


@pytest.mark.slow
def test_rare_gaps_agree_on_ranks_and_grids(
    plugins: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    names = ("gap_clusters", "gap_others", "gap_turbo", "gap_mixed")
    places = {name: request.getfixturevalue(name) for name in names}
    check_layouts(plugins, deck(tmp_path, places, RARE), RARE)


def test_every_process_opens_the_potential_that_is_asked_for(
    plugins: Path, gap_sum: Path, tmp_path: Path
) -> None:
    """Of a file with several potentials: the sum, or the GAP without its core."""
    from ase.io import write

    write(tmp_path / "melt.data", melts()[1], format="lammps-data", specorder=["Na", "Cl"],
          atom_style="atomic", masses=True)  # fmt: skip
    lines = []
    for init in ("", '"IP GAP"'):
        lines += ["clear", "units metal", "read_data melt.data", "pair_style quip library",
                  f"pair_coeff * * {gap_sum} {init} 11 17", "run 0 post no",
                  "print 'energy: $(pe:%.12g)'"]  # fmt: skip
    (tmp_path / "in.init").write_text("\n".join(lines) + "\n")
    found = []
    for n_ranks in (1, 2):
        ended = subprocess.run(
            ["mpirun", "-n", str(n_ranks), "lmp", "-in", "in.init", "-log", "none"],
            cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.append([float(word) for word in re.findall(r"^energy: (\S+)", ended.stdout, re.M)])
    (whole, part), other = found
    assert abs(whole - part) > 0.01
    assert other == pytest.approx([whole, part], rel=Agreement.RANKS.value)


def check_layouts(plugins: Path, inputs: Path, styles: Mapping[str, tuple[str, str]]) -> None:
    """Run a deck on 1, 2 and 4 ranks and compare what it wrote."""
    tmp_path = inputs.parent
    layouts = {"one": (1, "1 1 1"), "two": (2, "2 1 1"), "four": (4, "2 2 1"), "row": (4, "1 1 4")}
    for tag, (n_ranks, grid) in layouts.items():
        command = ["mpirun", "-n", str(n_ranks), "lmp", "-in", inputs.name, "-log", "none"]
        command += ["-var", "tag", tag, "-var", "grid", grid]
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment(plugins), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    for name in structures():
        for style in styles:
            atoms, sums = {}, {}
            for tag in layouts:
                atoms[tag] = np.loadtxt(tmp_path / f"{style}-{name}-{tag}.dump", skiprows=9)
                sums[tag] = np.loadtxt(tmp_path / f"{style}-{name}-{tag}.txt")
            one = atoms["one"]
            assert one[:, 4].sum() == pytest.approx(sums["one"][0], rel=Tolerance.SAME_NUMBERS)
            for tag in layouts:
                assert sums[tag] == pytest.approx(
                    sums["one"], rel=Agreement.RANKS.value, abs=Tolerance.SEVEN_DIGITS
                )
                assert np.abs(atoms[tag][:, 1:5] - one[:, 1:5]).max() < Agreement.RANKS.value
                stress = np.abs(one[:, 5:]).max()
                assert np.abs(atoms[tag][:, 5:] - one[:, 5:]).max() < Agreement.RANKS.value * stress


def test_one_rank_fails_all_end(plugins: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "in.wrong").write_text(
        "units metal\nregion cell block 0 9 0 9 0 9\ncreate_box 1 cell\nmass * 1.0\n"
        f"pair_style schnet\npair_coeff * * {files['schnet64']} K\n"
    )
    ended = subprocess.run(
        ["mpirun", "-n", "2", "lmp", "-in", "in.wrong", "-log", "none"],
        cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    assert "knows nothing of K" in ended.stdout + ended.stderr
