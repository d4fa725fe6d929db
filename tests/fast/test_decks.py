"""Decks, potentials and start structures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.generate import runs_of
from mlsel.md import deck
from mlsel.md.structures import grid_shape, grid_structure, lammps_data, start_structure
from mlsel.study.sections.system import System
from mlsel.study.study import load_study
from tests.support import Tolerance


def test_every_potential_says_what_it_is() -> None:
    names = deck.potential_names()
    assert len(names) >= 6
    for name in names:
        text = (deck.packaged_folder("potentials") / f"{name}.lmp").read_text(encoding="utf-8")
        for words in ("# species:", "metal units", "Source:", "pair_modify tail no"):
            assert words in text, name


def test_wrong_potentials_get_a_sentence() -> None:
    with pytest.raises(MlselError, match=r"nacl-tosi-fumy.*did you mean nacl-tosi-fumi\?"):
        deck.read_potential("nacl-tosi-fumy", ("Na", "Cl"))
    with pytest.raises(
        MlselError, match=r"system.species is Cl Na, .* is for Na Cl, in this order"
    ):
        deck.read_potential("nacl-tosi-fumi", ("Cl", "Na"))


def test_files_that_commands_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("table.txt", "more.lmp", "Cu.eam", "quoted.txt", "unnamed.txt", "pair_style")
    for name in names:
        Path(name).write_text(f"pair_coeff 1 1 {name[0]}\n", encoding="utf-8")
    Path("more.lmp").write_text("pair_coeff * * Cu.eam Cu\ninclude more.lmp\n", encoding="utf-8")
    text = (
        """pair_style table linear 100  # unnamed.txt
pair_coeff 1 1 &
  table.txt "quoted.txt"
include more.lmp nowhere.lmp"""
        + "x" * 300
    )
    found = deck.files_named(text)
    assert set(found) == {"table.txt", "more.lmp", "Cu.eam", "quoted.txt"}
    Path("Cu.eam").write_text("edited", encoding="utf-8")
    changed = {name for name, of in deck.files_named(text).items() if of != found[name]}
    assert changed == {"Cu.eam"}


def test_deck_sections_hold_the_whole_deck() -> None:
    text = deck.template("in.generate")
    parts = deck.sections(text)
    assert {"box", "model", "melt", "equilibrate", "sample"} <= set(parts)
    kept = sum(len(lines) for lines in parts.values()) + len(parts) - 1
    assert kept == len(text.splitlines())
    with pytest.raises(ValueError, match="no variable presure"):
        deck.fill(text, {"presure": 1})


@pytest.mark.parametrize("n", [2, 8, 64, 100, 128, 1000, 10000])
def test_grid_has_room_and_little_more(n: int) -> None:
    shape = grid_shape(n)
    assert n <= np.prod(shape) <= 1.3 * n
    assert max(shape) <= 2 * min(shape)


@pytest.mark.parametrize("composition", [(1, 1), (1, 2), (2, 3)])
def test_grid_structure_is_neutral_by_formula_and_spaced(composition: tuple[int, int]) -> None:
    n_atoms = sum(composition) * 20
    atoms = grid_structure(System(("Na", "Cl"), "x", n_atoms, composition, spacing=3.0))
    counts = atoms.symbols.formula.count()
    assert counts == {"Na": 20 * composition[0], "Cl": 20 * composition[1]}
    distances = atoms.get_all_distances(mic=True) + 10 * np.eye(n_atoms)
    assert distances.min() > 2.0


def test_neighbours_on_an_even_grid_are_unlike() -> None:
    atoms = grid_structure(System(("Na", "Cl"), "x", 64, spacing=3.0))
    distances = atoms.get_all_distances(mic=True)
    near = np.argwhere((distances > 0) & (distances < 3.1))
    numbers = atoms.numbers
    assert len(near) == 64 * 6
    assert all(numbers[i] != numbers[j] for i, j in near)


def test_wrong_start_structures_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="no such file"):
        start_structure(System(("Ar",), "x", start="none.cif"))
    bad = tmp_path / "bad.cif"
    bad.write_text("nonsense")
    with pytest.raises(MlselError, match="ASE can't read"):
        start_structure(System(("Ar",), "x", start=str(bad)))
    from ase.build import bulk

    bulk("Ne", "fcc", 4.4).write(tmp_path / "ne.xyz", format="extxyz")
    with pytest.raises(MlselError, match=r"holds Ne, which system.species does not name"):
        start_structure(System(("Ar",), "x", start=str(tmp_path / "ne.xyz")))


def test_data_file_orders_types_by_species() -> None:
    system = System(("Na", "Cl"), "x", 8)
    text = lammps_data(grid_structure(system), ("Na", "Cl"))
    masses = re.findall(r"^\s*(\d)\s+([\d.]+)\s+# (\w+)$", text, re.MULTILINE)
    assert [(kind, symbol) for kind, _, symbol in masses] == [("1", "Na"), ("2", "Cl")]
    assert float(masses[0][1]) == pytest.approx(22.98977, abs=Tolerance.THREE_DIGITS)


def test_runs_of_a_pool_start_with_other_velocities(tmp_path: Path) -> None:
    def seeds(*settings: str) -> list[str]:
        texts = [run.deck_text() for run in runs_of(load_study("quick", settings), tmp_path)]
        return [
            found[1] for text in texts if (found := re.search(r"variable seed +index (.*)", text))
        ]

    assert len(set(seeds())) == len(seeds()) == 8
    assert not set(seeds()) & set(seeds("pool.seed=2"))


def test_every_setting_of_the_pool_reaches_the_deck(tmp_path: Path) -> None:
    """What LAMMPS is told, with its variables put in."""
    settings = (
        "pool.temperatures=[1111]",
        "pool.pressures=[222]",
        "pool.timestep=1.5",
        "pool.melt_temperature=3333",
        "pool.thermostat_time=0.123",
        "pool.barostat_time=4.56",
    )
    (run,) = runs_of(load_study("quick", settings), tmp_path)
    text = re.sub(r" &\n +", " ", run.deck_text())
    values = dict(re.findall(r"^variable +(\w+) +index +(\S+)", text, re.MULTILINE))
    told = " ".join(re.sub(r"\$\{(\w+)\}", lambda m: values.get(m[1], m[0]), text).split())
    assert "fix ensemble all nvt temp 3333.0 3333.0 0.123 " in told
    assert "fix ensemble all npt temp 1111.0 1111.0 0.123 iso 222.0 222.0 4.56 " in told
    assert "timestep 0.0015 " in told
    assert f"velocity all create 3333.0 {run.seed} " in told
