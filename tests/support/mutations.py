"""Inputs with something wrong in them, by chance: each is refused in a sentence, or taken.

A case is a seed and a number, so that one that fails can be made again. Cases run in forked
children, many a child: what ends a process, hangs or takes all memory is a case that failed, and
the others go on in the next child.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from mlsel.cli import _told
from mlsel.core import endless
from mlsel.core.errors import LONGEST, MlselError

SECONDS = 60.0
"""Of processor time for one case, a thousand times what it takes: only what never ends is found."""
ENDLESS = 2.0
"""s of processor time, after which the HDF5 library is known to walk in a circle."""
TOLD = 99
"""Exit status of a child that said of its last case that it never ends. Any other end before the
last case is wrong, 0 too: Fortran's STOP is one."""
ROOM = 4 * 2**30
"""Bytes of address space that a case may ask for beyond what the process has."""
NASTY_NUMBERS = (
    "-1", "0", "1", "1e999", "-1e300", "1e-300", "nan", "inf", "-inf", "99999999999", "9" * 30,
    "-0.0", "0x10", "1,5", "1.5.2", "", "x", "2147483648", "9223372036854775808",
)  # fmt: skip
NASTY_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**12, 10**30, 1e308, float("nan"), float("inf"), "", "x", "../..",
    "long" * 3000, "\x00", [], {}, [[]], [None], {"x": 1}, ["a", 1], [1e308] * 3,
)  # fmt: skip


@dataclass
class Outcome:
    """What came of cases: how many were taken, how many refused, and what was neither."""

    n_taken: int = 0
    n_refused: int = 0
    wrong: list[str] = field(default_factory=list)

    def require(self, least_taken: float = 0.01, least_refused: float = 0.1) -> None:
        """Raise unless each case was one or the other, and neither was all there is."""
        assert not self.wrong, f"{len(self.wrong)} cases, the first: " + "\n".join(self.wrong[:3])
        n = self.n_taken + self.n_refused
        assert self.n_taken >= least_taken * n, self
        assert self.n_refused >= least_refused * n, self


def run_cases(
    one: Callable[[random.Random], None],
    n: int,
    seed: int,
    first: int = 0,
    told: Callable[[BaseException], str | None] | None = None,
    last_words: str = "",
) -> Outcome:
    """Run cases first … n − 1 of a seed, in children.

    Parameters
    ----------
    one : callable
        Makes the input that this generator of numbers leads to and uses it. It returns where that
        was possible.
    told : callable, optional
        Returns the message of an error that, beside MlselError, is one for a user; None of others.
        Without it those are errors of the system that commands tell in a sentence.
    last_words : str, optional
        How the last line on stderr begins where a library may end the process with status 1.
    """
    outcome, place = Outcome(), first
    with tempfile.TemporaryFile() as stderr:
        while place < n:
            place = _child(one, n, seed, place, told or _of_the_system, outcome, stderr, last_words)
    return outcome


def _child(
    one: Callable[[random.Random], None],
    n: int,
    seed: int,
    place: int,
    told: Callable[[BaseException], str | None],
    outcome: Outcome,
    stderr: IO[bytes],
    last_words: str,
) -> int:
    """Run cases from `place` on in a child; return where the next one goes on."""
    stderr.seek(0)
    stderr.truncate()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.dup2(stderr.fileno(), 2)
            _limit_memory()
            os.fsync = lambda fd: None  # the tests of crashes are others
            signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process

            def say(kind: str, text: str) -> None:
                os.write(writing, json.dumps([kind, text]).encode() + b"\n")

            def end(text: str) -> None:
                say(*_judged(text))
                os._exit(TOLD)

            endless.SECONDS, endless.end = ENDLESS, end
            for case in range(place, n):
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                found = _case(one, seed, case, told)
                signal.setitimer(signal.ITIMER_PROF, 0)
                say(*found)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            kind, text = json.loads(line)
            outcome.n_taken += kind == "taken"
            outcome.n_refused += kind == "refused"
            if kind == "wrong":
                outcome.wrong.append(f"case {place} of seed {seed}: {text}")
            place += 1
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if place < n and code != TOLD:
        stderr.seek(0)
        (last,) = stderr.read().decode("utf-8", "replace").splitlines()[-1:] or [""]
        if code == 1 and last_words and last.startswith(last_words):
            kind, text = _judged(last)
        else:
            ended = f"signal {-code}" if code < 0 else f"exit {code}"
            kind, text = "wrong", f"the process ended ({ended}): {last[:1000]}"
        outcome.n_refused += kind == "refused"
        if kind == "wrong":
            outcome.wrong.append(f"case {place} of seed {seed}: {text}")
        place += 1
    return place


def _case(
    one: Callable[[random.Random], None],
    seed: int,
    case: int,
    told: Callable[[BaseException], str | None],
) -> tuple[str, str]:
    try:
        one(random.Random(f"{seed}/{case}"))
    except BaseException as error:
        text = str(error) if isinstance(error, MlselError) else told(error)
        if text is None:
            return "wrong", "".join(traceback.format_exception(error))[-3000:]
        return _judged(text)
    return "taken", ""


def _judged(text: str) -> tuple[str, str]:
    if not text.isprintable() or not 0 < len(text) <= LONGEST:
        return "wrong", f"{len(text)} characters: {text[:1000]!r}"
    return "refused", text


def _of_the_system(error: BaseException) -> str | None:
    """What commands say of an error of the system's, a file that isn't there for instance."""
    return (_told(error) or None) if isinstance(error, OSError) else None


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file's bytes cut off, overwritten, moved, repeated or left out somewhere."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(made) + 1)
        # where headers and directories stand there is most to be damaged
        if chance.random() < 0.3:
            place = min(place, chance.randrange(1, 4096))
        length = chance.choice((1, 2, 4, 8, 64, 4096, len(made) // 2))
        kind = chance.randrange(7)
        if kind == 0:
            del made[place:]
        elif kind == 1:
            made[place : place + length] = chance.randbytes(min(length, 4096))
        elif kind == 2:
            for at in range(place, min(place + length, len(made), place + 64)):
                made[at] ^= 1 << chance.randrange(8)
        elif kind == 3:
            made[place : place + length] = bytes(min(length, len(made) - place))
        elif kind == 4:
            made[place : place + length] = b"\xff" * min(length, len(made) - place)
        elif kind == 5:
            made[place:place] = made[place : place + length]
        else:
            del made[place : place + length]
        if not made:
            break
    return bytes(made)


def damaged_text(text: str, chance: random.Random) -> bytes:
    """Return a text with words, numbers or lines changed, left out, repeated or exchanged."""
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(lines))
        words = lines[place].split(" ")
        kind = chance.randrange(9)
        if kind <= 3 and words:
            words[chance.randrange(len(words))] = chance.choice(NASTY_NUMBERS)
            lines[place] = " ".join(words)
        elif kind == 4:
            del words[chance.randrange(len(words))]
            lines[place] = " ".join(words)
        elif kind == 5:
            del lines[place]
        elif kind == 6:
            lines.insert(place, lines[chance.randrange(len(lines))])
        elif kind == 7:
            at = chance.randrange(len(lines[place]) + 1)
            junk = chance.choice(('"', "=", "{", "}", "<", ">", "\x00", "é", ":", "x" * 9000, "\\"))
            lines[place] = lines[place][:at] + junk + lines[place][at:]
        else:
            other = chance.randrange(len(lines))
            lines[place], lines[other] = lines[other], lines[place]
        lines = lines or [""]
    data = "\n".join(lines).encode() + b"\n"
    return damaged(data, chance) if chance.random() < 0.15 else data


def damaged_json(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one to three of its parts left out, renamed or of another kind."""
    value = json.loads(json.dumps(value))
    for _ in range(chance.randint(1, 3)):
        homes = [(home, key) for home in _containers(value) for key in _keys(home)]
        if not homes:
            return deepcopy(chance.choice(NASTY_VALUES))
        home, key = chance.choice(homes)
        kind = chance.randrange(6)
        if kind == 0:
            del home[key]
        elif kind == 1 and isinstance(home, dict):
            home[f"{key}x"] = home.pop(key)
        elif kind == 2 and isinstance(home, list):
            home.append(home[key])
        else:
            home[key] = deepcopy(chance.choice(NASTY_VALUES))  # damaged further
    return value


def damaged_json_bytes(value: Any, chance: random.Random) -> bytes:
    """Return the text of such a value, or of the value with its text damaged."""
    if chance.random() < 0.75:
        return json.dumps(damaged_json(value, chance), indent=2).encode()
    return damaged(json.dumps(value, indent=2).encode(), chance)


def _containers(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, dict | list) else []) + [
        found for one in inner for found in _containers(one)
    ]


def _keys(home: Any) -> list[Any]:
    return list(home) if isinstance(home, dict) else list(range(len(home)))


DTYPES = ("f8", "f4", ">f8", "i4", "i8", "u1", "S3", "bool", "c16")


def damage_hdf5(path: Path, chance: random.Random) -> None:
    """Leave out, rename, retype or resize a dataset, group or attribute of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(chance.choice((1, 1, 2))):
            name = chance.choice(names)
            if file.get(name) is None:  # left out before, or a link to nowhere
                continue
            kind = chance.randrange(8)
            if kind <= 1:
                _change_attribute(file[name], chance)
            elif kind == 2:
                del file[name]
            elif kind == 3:
                file.move(name, f"{name}x")
            elif kind == 4:
                del file[name]
                file[name] = chance.choice(
                    (h5py.ExternalLink("none.h5", "/x"), h5py.SoftLink("/none"), h5py.SoftLink("/"))
                )
            elif isinstance(file[name], h5py.Dataset):
                _change_dataset(file, name, chance)


def _change_attribute(home: Any, chance: random.Random) -> None:
    home = home if len(home.attrs) else home.file.get("parameters", home)
    if not len(home.attrs):
        return
    key = chance.choice(list(home.attrs))
    kind = chance.randrange(3)
    if kind == 0:
        del home.attrs[key]
    elif kind == 1:
        home.attrs[key] = h5py.Empty("f8")
    else:
        value = chance.choice([v for v in NASTY_VALUES if isinstance(v, str | float | int)])
        if isinstance(value, str):
            value = value.replace("\x00", "")
        try:
            home.attrs[key] = value
        except (OverflowError, TypeError):
            home.attrs[key] = [1.0, 2.0]


def _change_dataset(file: Any, name: str, chance: random.Random) -> None:
    data = file[name][()]
    kind = chance.randrange(3)
    shape = list(np.shape(data))
    if kind == 0 and shape:
        axis = chance.randrange(len(shape))
        shape[axis] = chance.choice((0, 1, shape[axis] + 1, max(0, shape[axis] - 1), 3))
    elif kind == 1:
        shape = chance.choice(([], [*shape, 1], shape[:-1], [1, *shape]))
    attributes = dict(file[name].attrs)
    dtype = np.dtype(chance.choice(DTYPES)) if kind == 2 else np.asarray(data).dtype
    if dtype.kind == "O":
        dtype = h5py.string_dtype()
    try:
        values = np.resize(np.asarray(data), shape).astype(dtype)
    except (TypeError, ValueError):
        values = np.zeros(shape, "f8")
    del file[name]
    try:
        file[name] = values
    except TypeError:
        file[name] = np.zeros(shape, "f8")
    for key, value in attributes.items():
        file[name].attrs[key] = value
    if chance.random() < 0.3 and values.size and values.dtype.kind in "fi":
        flat = chance.choice((np.nan, np.inf, -1, 0, 2**40))
        with np.errstate(all="ignore"):
            file[name][...] = np.full(shape, flat).astype(values.dtype)
