"""The trained models of a folder that are to be measured, and where what is measured lies."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from mlsel.core.errors import MlselError
from mlsel.core.hdf5_file import reading_hdf5
from mlsel.core.provenance import digest
from mlsel.study.folder import MODEL, StudyFolder

log = logging.getLogger(__name__)

PRODUCTS = ("weights.pt", "gap.xml", "pair.json", "baseline.json", "core.json")
"""What a model is, beside its description; a model has some of them."""
MEASURED = 2
"""Of what is measured of each frame; the first had no stresses, atomic energies and quantiles."""


@dataclass(frozen=True)
class Entry:
    """A trained model to be measured."""

    dataset: str
    name: str
    folder: Path
    product: Path
    """Errors per frame, HDF5."""
    identity: str
    """Hash of the model and the test set."""

    @property
    def title(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def chunks(self) -> Path:
        """Folder of what is done of it."""
        return self.product.with_suffix("")

    def chunk_path(self, chunk: int) -> Path:
        return self.chunks / f"{self.identity[:12]}-{chunk:05d}.npz"

    def stored_identity(self) -> str:
        """Return the identity that the product was made for."""
        with reading_hdf5(self.product) as file:
            return str(file.attrs.get("identity"))

    def is_done(self) -> bool:
        """Whether the product is there and was made of this model and this test set."""
        if not self.product.is_file():
            return False
        if self.stored_identity() == self.identity:
            return True
        log.info("%s is stale: the model or the test set changed; it is made anew", self.product)
        return False


def find_models(folder: Path, test_digest: str) -> list[Entry]:
    """Return the finished models of DIR/models.

    Raises
    ------
    MlselError
        If there is none.
    """
    found, place = [], StudyFolder(folder)
    for title in place.finished_models():
        dataset, _, name = title.partition("/")
        model = place.model(title)
        parts = [model / file for file in (MODEL, *PRODUCTS)]
        contents = [digest(p.read_bytes()) for p in parts if p.is_file()]
        identity = digest([test_digest, *contents, MEASURED])
        found.append(Entry(dataset, name, model, place.evaluation / f"{title}.h5", identity))
    if not found:
        raise MlselError(
            f"{place.models} holds no finished model: train some with `mlsel training`."
        )
    return found
