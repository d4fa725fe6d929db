"""Selection: which frames of a pool make a data set.

Its names are imported when they are first used, so that a command's --help is cheap.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlsel.selection.base import Selection, Selector
    from mlsel.selection.registry import METHODS, PAPER_METHODS, make_selector

__all__ = ["METHODS", "PAPER_METHODS", "Selection", "Selector", "make_selector"]

if not TYPE_CHECKING:  # else mypy would take any name for one of ours

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'mlsel.selection' has no attribute '{name}'")
        home = "base" if name in ("Selection", "Selector") else "registry"
        value = globals()[name] = getattr(import_module(f"mlsel.selection.{home}"), name)
        return value


def __dir__() -> list[str]:
    return __all__
