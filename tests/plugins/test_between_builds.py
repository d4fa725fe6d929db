"""What LAMMPS changes between two neighbour lists: types above all, as fix sgcmc and set do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.plugins.support import Agreement, run_deck
from tests.support import Tolerance

STYLES = {
    "zbl": ("zbl 5.0 6.0", "pair_coeff 1 1 11 11\npair_coeff 1 2 11 17\npair_coeff 2 2 17 17"),
    "quip": ("quip", "pair_coeff * * {gap} 11 17"),
    "library": ("quip library", "pair_coeff * * {gap} 11 17"),
    "compressed": ("schnet compressed", "pair_coeff * * {schnet64} Na Cl"),
    "torchscript": ("schnet torchscript", "pair_coeff * * {schnet64} Na Cl"),
}
CRYSTAL = """
    clear
    units metal
    atom_modify map array
    lattice custom 8.2 a1 1 0 0 a2 0 1 0 a3 0 0 1 basis 0 0 0 basis 0.5 0.5 0 basis 0.5 0 0.5 &
        basis 0 0.5 0.5 basis 0.5 0 0 basis 0 0.5 0 basis 0 0 0.5 basis 0.5 0.5 0.5
    region cell block 0 6 0 3 0 3
    create_box 2 cell
    create_atoms 1 box
    set group all type/fraction 2 0.5 7
    mass * 10
    displace_atoms all random 0.1 0.1 0.1 5
    neighbor 0.3 bin
    neigh_modify every 50 delay 50 check no one 10000
    timestep 0.0001
    fix 1 all nve
"""


def energies(said: str, word: str) -> dict[str, str]:
    return dict(re.findall(rf"^{word}: (\w+) (\S+)", said, re.M))


def check_as_anew(said: str) -> None:
    changed, anew = energies(said, "changed"), energies(said, "anew")
    assert set(changed) == set(anew) == set(STYLES)
    for name in STYLES:
        assert float(changed[name]) == pytest.approx(
            float(anew[name]), rel=Agreement.RANKS.value, abs=Tolerance.SUMS
        ), name


def test_types_change_in_a_run(
    plugins: Path, files: dict[str, Path], gap: Path, tmp_path: Path
) -> None:
    """The case sgcmc_stale_types: fix sgcmc changes types and evaluates without a new list. zbl,
    beside ours, shows that LAMMPS's own styles give the energy that a new list gives. (The fix
    wants boxes of four cutoffs.)"""
    deck = ""
    for name, (style, coeff) in STYLES.items():
        deck += f"""{CRYSTAL}
            pair_style {style}
            {coeff.format(gap=gap, **files)}
            fix s all sgcmc 3 0.03 1000000 0.0
            thermo_style custom step pe f_s[1] f_s[2]
            run 7
            print 'changed: {name} $(pe:%.10f) $(f_s[1]) $(f_s[2])'
            thermo_style one
            unfix s
            run 0
            print 'anew: {name} $(pe:%.10f)'
        """
    status, said = run_deck(deck, tmp_path, plugins)
    assert status == 0, said[-2000:]
    accepted = dict(re.findall(r"^changed: (\w+) \S+ (\d+)", said, re.M))
    assert set(accepted) == set(STYLES) and "0" not in accepted.values(), accepted
    check_as_anew(said)


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_types_are_set_between_runs(
    n_ranks: int, plugins: Path, files: dict[str, Path], gap: Path, tmp_path: Path
) -> None:
    """`set … type` and `run pre no`, of atoms that are nobody's ghosts: LAMMPS itself leaves those
    of others as they were."""
    deck = ""
    for name, (style, coeff) in STYLES.items():
        deck += f"""{CRYSTAL}
            pair_style {style}
            {coeff.format(gap=gap, **files)}
            region inside block 7 17.6 7 17.6 7 17.6 units box
            group inside region inside
            run 0
            print 'before: {name} $(pe:%.10f)'
            set group inside type 1
            run 1 pre no
            print 'changed: {name} $(pe:%.10f)'
            run 0
            print 'anew: {name} $(pe:%.10f)'
        """
    status, said = run_deck(deck, tmp_path, plugins, n_ranks)
    assert status == 0, said[-2000:]
    before, anew = energies(said, "before"), energies(said, "anew")
    assert all(abs(float(before[name]) - float(anew[name])) > 1e-6 for name in STYLES)
    check_as_anew(said)


def test_an_atom_that_becomes_ours_is_told(plugins: Path, gap: Path, tmp_path: Path) -> None:
    """A hybrid's list holds the atoms of our types alone: an atom of another type is not in it."""
    deck = f"""{CRYSTAL}
        pair_style hybrid/overlay quip zbl 3.0 4.0
        pair_coeff * * quip {gap} 11 NULL
        pair_coeff * * zbl 17 17
        run 0
        set atom 1 type 2
        set atom 2 type 1
        run 1 pre no
    """
    status, said = run_deck(deck, tmp_path, plugins)
    assert status != 0
    assert re.search(r"an atom's type changed from \d to \d, of which one is NULL", said)


@pytest.mark.parametrize("name", ["quip", "compressed"])
def test_added_atoms_need_a_new_list(
    name: str, plugins: Path, files: dict[str, Path], gap: Path, tmp_path: Path
) -> None:
    style, coeff = STYLES[name]
    deck = f"""{CRYSTAL}
        pair_style {style}
        {coeff.format(gap=gap, **files)}
        run 0
        create_atoms 1 single 0.25 0.25 0.25
        run 1 pre no
    """
    status, said = run_deck(deck, tmp_path, plugins)
    assert status != 0
    assert "whoever adds or deletes atoms must have it built anew" in said
