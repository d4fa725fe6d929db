"""How a training in epochs ended: by patience, or by max_epochs before that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONVERGED = "converged"


def ending(parameters: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return how a training ended, "" for a model that was not trained in epochs.

    Parameters
    ----------
    parameters, result : mappings
        Of model.json.

    Examples
    --------
    >>> asked = {"max_epochs": 40, "patience": 10}
    >>> ending(asked, {"n_epochs": 31, "best_epoch": 21})
    'converged'
    >>> ending(asked, {"n_epochs": 40, "best_epoch": 38})
    'stopped at max_epochs (40)'
    """
    n_epochs, best, patience = (
        result.get("n_epochs"), result.get("best_epoch"), parameters.get("patience"),
    )  # fmt: skip
    if not (isinstance(n_epochs, int) and isinstance(best, int) and isinstance(patience, int)):
        return ""
    return CONVERGED if n_epochs - best >= patience else f"stopped at max_epochs ({n_epochs})"
