"""Pair potentials: linear in splines of the distance, fitted in seconds: the floor of a study."""

from mlsel.training.pair.trainer import MODEL, trainers

__all__ = ["MODEL", "trainers"]
