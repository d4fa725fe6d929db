"""GAPs: fitted by QUIP's gap_fit, evaluated by our own C++ where it covers them."""

from mlsel.training.gap.trainer import MODEL, trainers

__all__ = ["MODEL", "trainers"]
