"""Settings of LAMMPS under which the pair styles would be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.support import open_lammps

STYLES = {"schnet": "{schnet64} Na Cl", "quip": "{gap} 11 17"}
BOX = "region cell block 0 9 0 9 0 9\ncreate_box 2 cell\nmass * 1.0\ncreate_atoms 1 single 4 4 4\n"


def refused(*commands: str) -> str:
    """What LAMMPS says of the last of some commands, when it does the others."""
    lmp = open_lammps()
    try:
        for command in commands[:-1]:
            lmp.commands_string(command)
        with pytest.raises(Exception, match="ERROR") as error:
            lmp.command(commands[-1])
        return str(error.value)
    finally:
        lmp.close()


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("units", ["real", "lj", "si"])
@pytest.mark.parametrize("style", STYLES)
def test_units_other_than_metal_are_refused(style: str, units: str) -> None:
    said = refused(f"units {units}\n{BOX}", f"pair_style {style}")
    assert f"pair_style {style} needs units metal, not {units}" in said


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("style", STYLES)
def test_newton_off_is_refused(style: str, files: dict[str, Path], gap: Path) -> None:
    coeff = STYLES[style].format(gap=gap, **files)
    pair = f"pair_style {style}\npair_coeff * * {coeff}"
    assert "needs newton on" in refused(f"units metal\nnewton off\n{BOX}", pair, "run 0")
