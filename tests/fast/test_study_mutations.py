"""Study files with something wrong in them, by chance: a sentence or a study, nothing else."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest

from mlsel.core.errors import LONGEST, MlselError
from mlsel.study.preset import presets
from mlsel.study.study import Study, load_study, record_study, recorded_study
from mlsel.workflow.status import states

VALUES = (
    "-1", "0", "1e999", "-1e300", "1e-300", "nan", "inf", "true", '""', "[]", "{}", "[[]]", "1.5",
    "100000000000", "9" * 30, "9" * 5000, "0x7fffffffffffffffffff", '"x\\u0000y"', '"\\n"',
    f'"{"long" * 3000}"', '"../.."', "1979-05-27T07:32:00Z", "[1, [2]]", '["a", 1]', "-0.0",
    "{ from = 900, to = 2200, n = 100000000000 }", "{ from = 1, to = 1e308, n = 3, log = true }",
    "{ from = -1e12, to = 1e12, n = 10000 }", "[" * 2000, '"""', "'",
    '["*", "*"]', "[" + "7," * 9000,
)  # fmt: skip
BYTES = (
    b"\xff",
    b"\x00",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\r",
    b"=",
    b".",
    b"]",
    b'"',
    b"\xe2\x80\xa8",
)


def texts() -> dict[str, str]:
    folder = resources.files("mlsel.study") / "presets"
    return {name: (folder / f"{name}.toml").read_text(encoding="utf-8") for name in presets()}


def mutated(text: str, chance: random.Random) -> bytes:
    """Return a study file with one to three things changed."""
    lines = text.splitlines()
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(lines))
        key = lines[place].partition("=")[0]
        change: Callable[[], str | None] = chance.choice(
            [
                lambda key=key: f"{key}= {chance.choice(VALUES)}",  # type: ignore[misc]
                lambda key=key: f"{key}= {chance.choice(VALUES)}",  # type: ignore[misc]
                lambda key=key: f"{key[:-2]} = 1",  # type: ignore[misc]
                lambda: "[" + "validation." * chance.choice((1, 3, 9, 2000)) + "x]",
                lambda: chance.choice(("name", "source", "a b", "system")) + " = 3",
                lambda: f'name = "{chance.choice(("", "a/b", "..", "x" * 5000))}"',
                lambda: None,
            ]
        )
        new = change()
        lines[place : place + 1] = [] if new is None else [new]
        lines = lines or [""]
    data = "\n".join(lines).encode()
    if chance.random() < 0.3:
        start = chance.randrange(len(data) + 1)
        stop = start + chance.choice((0, 1, len(data)))
        data = data[:start] + chance.choice(BYTES) + data[stop:]
    if chance.random() < 0.1:
        wide = data.decode("utf-8", "replace").encode("utf-16")
        data = chance.choice((codecs.BOM_UTF8 + data, wide, data * 200))
    return data


def look_at(data: bytes, folder: Path) -> Study | None:
    """Read a study file and look at what it asks for; what is refused must be a short sentence."""
    path = folder / "mine.toml"
    path.write_bytes(data)
    try:
        study = load_study(str(path))
        json.dumps(study.as_dict("system", "pool", "selection", "training", "validation"))
        if len(study.pool.temperatures) * len(study.pool.pressures) < 1000:
            states(study, folder / "made")
    except MlselError as error:
        assert len(str(error)) <= LONGEST and str(error).isprintable(), str(error)
        return None
    return study


def read_many(n: int, seed: int, folder: Path) -> None:
    chance = random.Random(seed)
    originals = list(texts().values())
    n_sound = 0
    for case in range(n):
        data = mutated(chance.choice(originals), chance)
        try:
            n_sound += look_at(data, folder) is not None
        except Exception as error:
            raise AssertionError(
                f"case {case} of seed {seed}: {error!r}\n{data[:2000]!r}"
            ) from error
    assert 0.02 * n < n_sound < 0.8 * n


def test_some_mutated_study_files(tmp_path: Path) -> None:
    read_many(300, 1, tmp_path)


@pytest.mark.slow
def test_many_mutated_study_files(tmp_path: Path) -> None:
    read_many(5000, 2, tmp_path)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-16", "UTF-16"), ("utf-16-be", "not UTF-8"), ("latin-1", "0xc5"), ("utf-8-sig", "")],
)
def test_encodings(encoding: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(texts()["quick"], encoding=encoding, errors="replace")
    if not said:
        assert load_study(str(path)).name == "mine"
        return
    with pytest.raises(MlselError, match=said):
        load_study(str(path))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pool.temperatures={from=1, to=2, n=100000000000}", "at most 10000"),
        ("selection.n_train=100000000000", "from -2147483647 to 2147483647"),
        ("validation.duration=1e11", "more than 1e"),
        ("training.schnet.seed=" + "9" * 5000, "it must be a whole number"),
        ("a" * 9000 + ".b=1", "unknown key aaaa"),
        ("pool.seed=" + "x" * 9000, "it must be a whole number"),
        ("validation.kspace_styl=1", "did you mean kspace_style"),
    ],
)
def test_counts_are_bounded_before_anything_is_expanded(override: str, said: str) -> None:
    overrides = [override, "validation.timestep=1e-9"] if "duration" in override else [override]
    with pytest.raises(MlselError, match=said) as told:
        load_study("quick", overrides)
    assert len(str(told.value)) <= LONGEST


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    record_study(load_study("quick"), tmp_path)
    path = tmp_path / "study.json"
    whole = path.read_bytes()
    assert recorded_study(tmp_path) == load_study("quick")
    for data in (whole[:200], b"[]", b"\xff\xfe", whole.replace(b"NaCl", b"x"), b"{}",
                 whole.replace(b"900.0", b"1e999"), b"[" * 100_000,
                 whole.replace(b'"pool"', b'"pol"')):  # fmt: skip
        path.write_bytes(data)
        if data == whole:
            continue
        with pytest.raises(MlselError) as told:
            recorded_study(tmp_path)
        assert len(str(told.value)) <= LONGEST and str(told.value).isprintable()
