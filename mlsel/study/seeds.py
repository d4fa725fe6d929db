"""The names of data sets and models that differ in their seed alone: name, name-s2, name-s3, …"""

from __future__ import annotations

import re

MOST = 1000
"""Seeds of one thing, at most."""
_SEED = re.compile(r"^(.+)-s([1-9]\d*)$")


def seeded(name: str, seed: int) -> str:
    """Return the name of the one with this seed, from 1 on.

    >>> seeded("random", 1), seeded("random", 3)
    ('random', 'random-s3')
    """
    return name if seed == 1 else f"{name}-s{seed}"


def family(name: str) -> tuple[str, int]:
    """Return a name without its seed, and the seed's number.

    >>> family("schnet-small-e0.01-s3"), family("pair"), family("slab-s1")
    (('schnet-small-e0.01', 3), ('pair', 1), ('slab-s1', 1))
    """
    found = _SEED.match(name)
    return (found[1], int(found[2])) if found and int(found[2]) > 1 else (name, 1)
