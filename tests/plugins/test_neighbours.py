"""What LAMMPS takes out of neighbour lists, how it makes them, and boxes that flip."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.plugins.support import Agreement, run_deck
from tests.support import Tolerance

STYLES = {
    "quip": "{style} quip{of}\n{coeff} {gap} 11 17 11",
    "library": "{style} quip library{of}\n{coeff} {gap} 11 17 11",
    "compressed": "{style} schnet compressed{of}\n{coeff} {schnet64} Na Cl Na",
    "torchscript": "{style} schnet torchscript{of}\n{coeff} {schnet64} Na Cl Na",
}
FAST = ("quip", "compressed")
CRYSTAL = """
    clear
    units metal
    atom_style bond
    lattice custom 5.6 a1 1 0 0 a2 0 1 0 a3 0 0 1 basis 0 0 0 basis 0.5 0.5 0 basis 0.5 0 0.5 &
        basis 0 0.5 0.5 basis 0.5 0 0 basis 0 0.5 0 basis 0 0 0.5 basis 0.5 0.5 0.5 &
        origin 0.25 0.25 0.25
    region cell block 0 2 0 2 0 2
    create_box 3 cell bond/types 1 extra/bond/per/atom 2 extra/special/per/atom 4
    create_atoms 1 box basis 5 2 basis 6 2 basis 7 2 basis 8 2
    mass * 22.99
    mass 2 35.45
    displace_atoms all random 0.1 0.1 0.1 5
    group first id 1:4
    group second id 33:36
    group whole id 1:64
    group nobody empty
    set group second mol 2
    neigh_modify one 4000 page 100000
"""


def pair(name: str, places: dict[str, Path]) -> str:
    return STYLES[name].format(style="pair_style", of="", coeff="pair_coeff * *", **places)


@pytest.fixture(scope="module")
def places(files: dict[str, Path], gap: Path) -> dict[str, Path]:
    return {**files, "gap": gap}


def evaluated(
    settings: Iterable[str], styles: Iterable[str], places: dict[str, Path], folder: Path,
    plugins: Path, n_ranks: int = 1,
) -> dict[tuple[str, str], tuple[float, list[str]]]:  # fmt: skip
    """Energy and warnings of the crystal under each setting; `;` stands between commands."""
    cases = [(style, setting) for style in styles for setting in settings]
    deck = ""
    for k, (style, setting) in enumerate(cases):
        commands = setting.replace("; ", "\n")
        deck += f"{CRYSTAL}\nprint 'case {k}:'\n{pair(style, places)}\n{commands}\n"
        deck += "run 0 post no\nrun 0 post no\nprint 'energy: $(pe:%.14g)'\n"
    status, said = run_deck(deck, folder, plugins, n_ranks)
    assert status == 0, said[-2000:]
    found = {}
    for case, text in zip(cases, re.split(r"^case \d+:", said, flags=re.M)[1:], strict=True):
        energy = re.search(r"^energy: (\S+)", text, re.M)
        assert energy is not None
        found[case] = float(energy[1]), re.findall(r"WARNING: (pair_style .*)", text)
    return found


DROPS = {
    "neigh_modify exclude type 1 2": "neigh_modify exclude type 1 2",
    "neigh_modify exclude group nobody all exclude group first second":
        "neigh_modify exclude group first second",
    "neigh_modify exclude molecule/intra second": "neigh_modify exclude molecule/intra second",
    "neigh_modify exclude molecule/inter all": "neigh_modify exclude molecule/inter all",
    "atom_modify first first; neigh_modify include first": "neigh_modify include first",
    "atom_modify first first; comm_modify group first": "comm_modify group first",
}  # fmt: skip
KEEPS = (
    "",
    "neigh_modify exclude type 1 3",
    "neigh_modify exclude group nobody all",
    "neigh_modify exclude molecule/inter second",
    "neigh_modify exclude type 1 2; neigh_modify exclude none",
    "atom_modify first whole; neigh_modify include whole; comm_modify group whole",
)


@pytest.mark.parametrize(
    ("n_ranks", "styles", "n_settings"),
    [(1, FAST, 6), (2, FAST, 6), (1, ("library", "torchscript"), 1)],
    ids=["one", "two", "others"],
)
def test_neighbours_that_are_left_out_are_warned_of(
    n_ranks: int, styles: tuple[str, ...], n_settings: int,
    plugins: Path, places: dict[str, Path], tmp_path: Path,
) -> None:  # fmt: skip
    """Once, by the words that do it, wherever it changes the energy; and nowhere else."""
    keeps, drops = KEEPS[:n_settings], list(DROPS)[:n_settings]
    found = evaluated([*keeps, *drops], styles, places, tmp_path, plugins, n_ranks)
    for style in styles:
        whole = found[style, ""][0]
        for setting in keeps:
            energy, warnings = found[style, setting]
            assert energy == pytest.approx(whole, rel=Tolerance.SAME_NUMBERS) and not warnings
        for setting in drops:
            words = DROPS[setting]
            energy, warnings = found[style, setting]
            assert abs(energy - whole) > Tolerance.PERCENT, (style, setting)
            assert len(warnings) == 1, (style, setting)
            name = "schnet" if style in ("compressed", "torchscript") else "quip"
            assert f"pair_style {name}: {words} leaves atoms that the model is for" in warnings[0]


def test_atoms_of_others_may_be_left_out(
    plugins: Path, places: dict[str, Path], tmp_path: Path
) -> None:
    deck = ""
    for types in ("1 1", "1 2", "2 2"):
        deck += f"""{CRYSTAL}
            pair_style hybrid/overlay quip zero 6.0
            pair_coeff * * quip {places["gap"]} NULL 17 NULL
            pair_coeff * * zero
            neigh_modify exclude type {types}
            run 0 post no
        """
    status, said = run_deck(deck, tmp_path, plugins)
    assert status == 0, said[-2000:]
    assert re.findall(r"WARNING: pair_style quip: (.*) leaves", said) == [
        "neigh_modify exclude type 2 2"
    ]


SAME = (
    "neighbor 1.0 nsq",
    "neighbor 1.0 multi",
    "neighbor 0.3 multi/old",
    "neighbor 0.5 multi; neigh_modify collection/type 3 1 2 3",
    "comm_modify cutoff 0.5",
    "neighbor 1.0 multi; comm_modify mode multi cutoff/multi * 0.5",
    "comm_modify cutoff 15.0",
    "comm_style tiled",
    "atom_modify sort 1 2.0",
    "pair_modify shift yes",
    "pair_modify tail yes",
    "pair_modify mix arithmetic",
    "pair_modify table 12",
    "pair_modify nofdotr",
    "neigh_modify cluster yes binsize 2.0",
)


def test_settings_of_lists_and_pairs_change_nothing(
    plugins: Path, places: dict[str, Path], tmp_path: Path
) -> None:
    found = evaluated(["", *SAME], FAST, places, tmp_path, plugins, n_ranks=2)
    for style in FAST:
        whole = found[style, ""][0]
        for setting in SAME:
            energy, warnings = found[style, setting]
            assert energy == pytest.approx(whole, rel=Agreement.RANKS.value), (style, setting)
            assert warnings == []


@pytest.mark.parametrize("name", FAST)
def test_more_neighbours_than_there_is_room_for(
    name: str, plugins: Path, places: dict[str, Path], tmp_path: Path
) -> None:
    deck = f"{CRYSTAL}\n{pair(name, places)}\nneigh_modify one 20 page 200\nrun 0\n"
    status, said = run_deck(deck, tmp_path, plugins)
    assert status != 0
    assert "Neighbor list overflow, boost neigh_modify one" in said


BONDED = """
    units metal
    atom_style bond
    region cell block 0 12 0 12 0 12
    create_box 3 cell bond/types 1 extra/bond/per/atom 2 extra/special/per/atom 4
    create_atoms 1 single 5 5 5
    create_atoms 2 single 7.5 5 5
    mass * 22.99
    mass 2 35.45
    bond_style zero
    bond_coeff *
"""
BOND = "create_bonds single/bond 1 1 2 special yes\n"
REFUSED = "special_bonds has the factor 0 for atoms that are 1 bond apart"


@pytest.mark.parametrize("name", FAST)
def test_bonded_neighbours_are_not_lost(
    name: str, plugins: Path, places: dict[str, Path], tmp_path: Path
) -> None:
    """special_bonds, 0 0 0 by default, takes bonded atoms out of the list; delete_bonds leaves
    that so until it is told `special`."""
    model = pair(name, places)
    delete = "delete_bonds all multi remove"
    for lost in ("", f"{delete}\n"):
        status, said = run_deck(f"{BONDED}{BOND}{model}\n{lost}run 0\n", tmp_path, plugins)
        assert status != 0 and REFUSED in said, lost
    deck = ""
    for commands in (
        "",
        f"{BOND}special_bonds lj/coul 1 1 1",
        f"{BOND}special_bonds lj/coul 1e-50 1e-50 1e-50",
        f"{BOND}{delete} special",
    ):
        deck += f"clear\n{BONDED}{model}\n{commands}\nrun 0\nprint 'energy: $(pe:%.10f)'\n"
    status, said = run_deck(deck, tmp_path, plugins)
    assert status == 0, said[-2000:]
    energies = re.findall(r"^energy: (\S+)", said, re.M)
    assert len(energies) == 4 and len(set(energies)) == 1


def test_bonds_that_a_run_makes(plugins: Path, places: dict[str, Path], tmp_path: Path) -> None:
    deck = f"""{BONDED}
        {pair("quip", places)}
        fix 1 all bond/create 1 1 2 3.0 1
        fix 2 all nve
        neigh_modify every 1 delay 0 check no
        run 3
    """
    status, said = run_deck(deck, tmp_path, plugins)
    assert status != 0 and REFUSED in said


def test_bonds_to_atoms_of_others(plugins: Path, places: dict[str, Path], tmp_path: Path) -> None:
    deck = f"""{BONDED}{BOND}
        pair_style hybrid/overlay quip zero 6.0
        pair_coeff * * quip {places["gap"]} 11 NULL NULL
        pair_coeff * * zero
        run 0
    """
    status, said = run_deck(deck, tmp_path, plugins)
    assert status == 0, said[-2000:]


def test_bonds_of_templates(plugins: Path, places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "two.mol").write_text(
        "two\n\n2 atoms\n1 bonds\n\nCoords\n\n1 0 0 0\n2 2.5 0 0\n\nTypes\n\n1 1\n2 2\n\n"
        "Bonds\n\n1 1 1 2\n\nSpecial Bond Counts\n\n1 1 0 0\n2 1 0 0\n\nSpecial Bonds\n\n1 2\n2 1\n"
    )
    deck = f"""
        units metal
        molecule two two.mol
        atom_style template two
        region cell block 0 12 0 12 0 12
        create_box 2 cell bond/types 1
        create_atoms 0 single 5 5 5 mol two 5
        mass * 10
        pair_style quip
        pair_coeff * * {places["gap"]} 11 17
        bond_style zero
        bond_coeff *
        special_bonds lj/coul {{}}
        run 0
    """
    status, said = run_deck(deck.format("0 0 0"), tmp_path, plugins)
    assert status != 0 and "of atom_style template out of the list" in said
    status, said = run_deck(deck.format("1 1 1"), tmp_path, plugins)
    assert status == 0, said[-2000:]


def test_a_box_that_flips(plugins: Path, places: dict[str, Path], tmp_path: Path) -> None:
    """`fix deform … flip yes` takes other vectors for the same lattice: the energy is that of a box
    that does not flip, and of two ranks. (With `remap v` or `none` where an atom goes that crosses
    the box depends on the vector along which it did: there LAMMPS's own styles differ, too.)"""
    styles = {
        "lj": "pair_style lj/cut 6.0\npair_coeff * * 0.01 2.2",
        **{name: pair(name, places).removesuffix(" 11").removesuffix(" Na") for name in FAST},
    }
    deck = ""
    for name, commands in styles.items():
        for flip in ("yes", "no"):
            deck += f"""
                clear
                units metal
                region cell prism 0 11.2 0 11.2 0 11.2 5.4 0 0
                create_box 2 cell
                lattice sc 2.8
                create_atoms 1 box
                set group all type/fraction 2 0.5 7
                mass * 30
                {commands}
                displace_atoms all random 0.1 0.1 0.1 5
                velocity all create 300 1 loop geom
                fix 1 all nve
                fix 2 all deform 1 xy erate 10.0 flip {flip} remap x
                timestep 0.0005
                run 6 post no
                print 'energy: {name} {flip} $(pe:%.14g) $(xy)'
            """
    energies: dict[str, list[float]] = {name: [] for name in styles}
    for n_ranks in (1, 2):
        status, said = run_deck(deck, tmp_path, plugins, n_ranks)
        assert status == 0, said[-2000:]
        for name, flip, energy, tilt in re.findall(r"^energy: (\w+) (\w+) (\S+) (\S+)", said, re.M):
            assert (float(tilt) < 0) == (flip == "yes")
            energies[name].append(float(energy))
    for name, found in energies.items():
        assert found == [pytest.approx(found[0], rel=Agreement.RANKS.value)] * 4, name
