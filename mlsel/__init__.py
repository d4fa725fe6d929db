"""Which configurations should a machine-learned interatomic potential be trained on?

The names that a script needs, each imported when it is first used, so that `import mlsel` is cheap:

Pool
    A pool or a data set, opened for reading.
load_study
    A study file, or a preset by its name, checked.
make_selector
    A method of selection by its name.
load_model
    A trained model of any kind.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mlsel.core.version import __version__

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool
    from mlsel.selection import make_selector
    from mlsel.study.study import load_study
    from mlsel.training import load_model

__all__ = ["Pool", "__version__", "load_model", "load_study", "make_selector"]

_HOMES = {
    "Pool": "mlsel.pool.pool",
    "load_study": "mlsel.study.study",
    "make_selector": "mlsel.selection",
    "load_model": "mlsel.training",
}

if not TYPE_CHECKING:  # else mypy would take any name for one of ours

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module 'mlsel' has no attribute '{name}'")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__() -> list[str]:
    return __all__
