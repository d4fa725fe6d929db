"""SchNets: trained by our own loop on schnetpack's networks."""

from mlsel.training.schnet.trainer import MODEL, trainers

__all__ = ["MODEL", "trainers"]
