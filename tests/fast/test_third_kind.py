"""The example of docs/training.md: a kind of model in one file, used as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.training.command import main
from mlsel.training.registry import load_model
from tests.support.training_data import frames, write_pool

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"
LEARNT = 0.02
"""Force RMSE, eV/Å, of a pair potential learnt as a sum of Gaussians 0.2 Å wide."""


def test_the_documented_kind_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "MODEL = LinearModel" in block)
    (tmp_path / "linear_pair.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    data = write_pool(tmp_path / "train.h5", [frames(60, side=3)])
    out = tmp_path / "model"
    words = ["quick", "--data", str(data), "--model", "linear-pair", "-o", str(out)]
    assert main([*words, "--set", 'training.kinds=["linear_pair"]']) == 0
    model = load_model(out)
    part = frames(5, seed=9, side=3)
    assert part.forces is not None
    prediction = model.predict(part)
    assert np.sqrt(np.mean((prediction.forces - part.forces) ** 2)) < LEARNT
    np.testing.assert_allclose(prediction.atomic_energies.sum(1), prediction.energy)
    monkeypatch.delitem(sys.modules, "linear_pair")
    (tmp_path / "linear_pair.py").write_text(f"{code}\nedited = True\n", encoding="utf-8")
    with pytest.raises(MlselError, match=r"trained by other code than the module linear_pair now"):
        load_model(out)
    with pytest.raises(MlselError, match=r"made otherwise .* code\.linear_pair \("):
        main([*words, "--set", 'training.kinds=["linear_pair"]'])
    with pytest.raises(MlselError, match="no kind of model linear_pears"):
        main([*words, "--set", 'training.kinds=["linear_pears"]'])
