"""The studies that come with mlsel, by their names."""

from __future__ import annotations

from pathlib import Path

DEFAULT_STUDY = "paper"

_FOLDER = Path(__file__).with_name("presets")


def presets() -> list[str]:
    """Return the names of the studies that come with mlsel."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset_file(name: str) -> Path:
    """Return the file of a study that comes with mlsel."""
    return _FOLDER / f"{name}.toml"
