"""The tables of this page, of the README and of docs/results.md.

`python docs/study/page.py` writes them between marks. They come out of data/*.csv, and
tests/fast/test_study_page.py holds the pages to that.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.evaluate.seeds import plus_minus

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
RESULTS = HERE.parent / "results.md"
METHODS = ("random", "single-md-random", "global-energy", "atomic-energy", "force")
RUN = ("random", "force", "fps", "cur", "set-cover", "network-distillation")
FROM_ALL = ("random", "global-energy", "atomic-energy", "force")
SMALL = "schnet-small-e0.01"
FAMILIES = (SMALL, "schnet-medium-e0.01", "schnet-large-e0.01", "schnet-small-e0.1",
            "schnet-medium-e0.1", "gap-2b-500-f0.1", "gap-500-f0.1")  # fmt: skip
"""Of which each part of the study has one."""
LEARNT = {n: f"learn-{n}-" for n in (32, 64, 128, 256)} | {512: "own-"}
"""The part of a learning curve's sets, by their number of configurations."""
POTENTIALS = {"bare": "all is learnt", "zbl": "wide ZBL given", "charges": "ZBL and charges given"}
RANDOM_FRAMES = "force, random frames"
OWN = ("random", "force", "flat-force", "force-fps", "fps", "cur", "entropy", "set-cover",
       "network-distillation", "pair-energy")  # fmt: skip


def read(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table of this page."""
    with (HERE / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def milli(row: dict[str, Any], name: str) -> str:
    """Return a mean with its standard error, if it has one, in thousandths."""
    value, error = 1000 * float(row[name]), 1000 * float(row[f"{name}_error"])
    return f"{value:.4g}" if math.isnan(error) else plus_minus(value, error)


def three(columns: dict[str, tuple[str, str, str]], methods: Sequence[str]) -> list[str]:
    """Max / RMSE / MAE by method; a column is a part's prefix, a potential and a quantity."""
    lines = [f"| chosen | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    rows = {
        (prefix, r["potential"], r["quantity"], r["dataset"]): r
        for prefix in {column[0] for column in columns.values()}
        for r in read(f"{prefix}summary.csv")
        if r["family"] in FAMILIES
    }
    for method in methods:
        own = [rows.get((*column, method)) for column in columns.values()]
        cells = [
            " / ".join(milli(row, m) for m in ("max", "rmse", "mae")) if row else "" for row in own
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def errors(quantity: str = "force") -> list[str]:
    """Force errors of the small networks by method and by what is given."""
    return three({w: ("", name, quantity) for name, w in POTENTIALS.items()}, METHODS)


def typical() -> list[str]:
    """The same on the quarter of the test frames that is a random sample of the pool."""
    return errors(RANDOM_FRAMES)


def larger() -> list[str]:
    """The same where all is learnt, by networks of three sizes."""
    sizes = {size: f"{size}-" for size in ("small", "medium", "large")}
    return three({size: (prefix, "bare", "force") for size, prefix in sizes.items()}, METHODS)


def weights() -> list[str]:
    """The same by networks with the paper's two weights of the energy in the loss."""
    columns = {"small, 0.01": "small-", "small, 0.1": "weight-",
               "medium, 0.01": "medium-", "medium, 0.1": "medium-weight-"}  # fmt: skip
    return three({w: (prefix, "bare", "force") for w, prefix in columns.items()}, METHODS)


def learning() -> list[str]:
    """Max / RMSE / MAE by the number of configurations, ZBL and charges given."""
    methods = ("random", "force", "cur")
    lines = [f"| configurations | {' | '.join(methods)} |", "|---:|" + "---:|" * len(methods)]
    for n, prefix in LEARNT.items():
        rows = three({str(n): (prefix, "charges", "force")}, methods)[2:]
        lines.append(f"| {n} | {' | '.join(row.split('|')[2].strip() for row in rows)} |")
    return lines


def gap() -> list[str]:
    """Force errors of GAPs of 128 configurations."""
    columns = {
        "2b and SOAP": ("gap-", "bare", "force"),
        "2b and SOAP, random frames": ("gap-", "bare", RANDOM_FRAMES),
        "SOAP alone": ("gap-soap-", "bare", "force"),
    }
    return three(columns, (*FROM_ALL, "cur"))


def positive() -> list[str]:
    """The same with the positive D, on its own test frames."""
    return three({POTENTIALS["bare"]: ("positive-", "bare", "force")}, FROM_ALL)


def own() -> list[str]:
    """Force errors by methods beyond the paper's."""
    given = POTENTIALS["charges"]
    columns = {
        POTENTIALS["bare"]: ("own-", "bare", "force"),
        given: ("own-", "charges", "force"),
        f"{given}, random frames": ("own-", "charges", RANDOM_FRAMES),
    }
    return three(columns, OWN)


def differences() -> list[str]:
    """Paired differences of RMSE and Max to random selection."""
    lines = ["| less random | measure | " + " | ".join(POTENTIALS.values()) + " |"]
    lines.append("|---|---|---:|---:|---:|")
    own = {}
    for row in read("comparisons.csv"):
        if row["family"] == SMALL and "random" in (row["first"], row["second"]):
            other, sign = (row["second"], -1) if row["first"] == "random" else (row["first"], 1)
            own[row["potential"], other, row["measure"]] = row | {
                "difference": sign * float(row["difference"])
            }
    for method in METHODS[1:]:
        for measure in ("rmse", "max"):
            cells = []
            for name in POTENTIALS:
                row = own[name, method, measure]
                text = plus_minus(1000 * row["difference"], 1000 * float(row["error"]))
                cells.append(f"**{text}**" if row["smaller"] else text)
            lines.append(f"| {method} | {measure.upper() if measure == 'rmse' else 'Max'} "
                         f"| {' | '.join(cells)} |")  # fmt: skip
    return lines


def md(
    prefix: str = "", methods: Sequence[str] = METHODS, names: Sequence[str] = tuple(POTENTIALS)
) -> list[str]:
    """What 1000 ions did, of the models of each method."""
    lines = [f"| chosen | {' | '.join(POTENTIALS[name] for name in names)} |"]
    lines.append("|---|" + "---|" * len(names))
    rows = [r for r in read(f"{prefix}md.csv") if r["model"] == SMALL]
    for method in methods:
        cells = []
        for name in names:
            own = [r for r in rows if (r["potential"], r["method"]) == (name, method)]
            words = sorted({r["word"] for r in own})
            told = ", ".join(f"{sum(r['word'] == w for r in own)} {w}" for w in words)
            times = [float(r["stable_time"]) for r in own]
            least, most = (f"{time:.1f}" for time in (min(times), max(times)))
            cells.append(f"{told}; {least if least == most else f'{least} to {most}'} ps")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def own_md() -> list[str]:
    """The same by methods beyond the paper's."""
    return md("own-", RUN, ("bare",))


def ranks(values: Any) -> Any:
    """Return ranks, ties with their mean."""
    values = np.asarray(values, dtype=float)
    return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])


def spearman(first: Any, second: Any) -> tuple[float, float]:
    """Return the rank correlation and its standard error under no correlation."""
    r = float(np.corrcoef(ranks(first), ranks(second))[0, 1])
    return r, 1 / math.sqrt(len(first) - 1)


def correlations() -> list[str]:
    """Do errors on a test set, or two ions pushed together, tell how long MD survives?"""
    survived = {
        (r["potential"], r["method"], r["seed"]): float(r["stable_time"])
        for r in read("md.csv")
        if r["model"] == SMALL
    }
    measured: dict[str, dict[tuple[str, str, str], float]] = {}
    for row in read("errors.csv"):
        key = row["potential"], row["method"], row["seed"]
        if row["model"] == SMALL and key in survived:
            for name in ("rmse", "max", "q9999"):
                measured.setdefault(name, {})[key] = float(row[name])
    for row in read("probe.csv"):
        key = row["potential"], row["method"], row["seed"]
        if row["model"] == SMALL and key in survived:
            holes = measured.setdefault("hole", {})
            holes[key] = max(holes.get(key, 0.0), float(row["hole"]))
    names = {
        "rmse": "RMSE of forces",
        "max": "largest error of a force",
        "q9999": "99.99 % quantile of force errors",
        "hole": "deepest hole when two ions are pushed together",
    }
    lines = [
        "| measured without MD | all networks | without single-md-random's |",
        "|---|---:|---:|",
    ]
    for name, words in names.items():
        bare = [k for k in measured[name] if k[0] == "bare"]
        cells = []
        for keys in (bare, [k for k in bare if k[1] != "single-md-random"]):
            r, error = spearman([measured[name][k] for k in keys], [survived[k] for k in keys])
            cells.append(f"{r:+.2f} ± {error:.2f}")
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


BASELINES = {"bare": "none", "zbl": "wide ZBL", "charges": "ZBL and charges"}


def labels() -> list[str]:
    """Labels that were spent until MD held, by data set and baseline."""
    lines = [
        "| baseline | set | first model held | labels, rounds | last model held | RMSE / meV/Å "
        "| largest error / meV/Å | verdict |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in read("labels-spent.csv"):
        number = {key: float(row[key]) for key in row if key.startswith(("first", "last"))}
        errors = [
            f"{1000 * number[f'first_{name}']:{form}} to {1000 * number[f'last_{name}']:{form}}"
            if row["rounds"] != "0"
            else f"{1000 * number[f'first_{name}']:{form}}"
            for name, form in (("rmse", ".1f"), ("max", ".0f"))
        ]
        seed = f", seed {row['seed']}" if row["seed"] != "1" else ""
        lines.append(
            f"| {BASELINES[row['baseline']]} | {row['method']}, {row['n']}{seed} "
            f"| {number['first_time']:.3g} ps | {row['labels']}, {row['rounds']} "
            f"| {number['last_time']:.3g} ps, {row['ended']} | {errors[0]} | {errors[1]} "
            f"| {row['verdict']} |"
        )
    return lines


TABLES = {
    "errors": errors,
    "typical": typical,
    "differences": differences,
    "larger": larger,
    "weights": weights,
    "learning": learning,
    "own": own,
    "gap": gap,
    "positive": positive,
    "md": md,
    "own-md": own_md,
    "correlations": correlations,
    "labels": labels,
}
ELSEWHERE = {README: ("errors",), RESULTS: ("labels",)}
PAGES = {HERE / "index.md": tuple(name for name in TABLES if name != "labels"), **ELSEWHERE}
"""Each page, and which tables it has."""


def written(page: Path) -> str:
    """Return a page with its tables made anew."""
    text = page.read_text(encoding="utf-8")
    for name in PAGES[page]:
        mark = re.compile(rf"(<!-- {name} -->\n).*?(\n?<!-- end -->)", re.DOTALL)
        table = "\n".join(TABLES[name]())
        text, n = mark.subn(rf"\1\n{table}\n\n<!-- end -->", text)
        if n != 1:
            raise ValueError(f"{page} has {n} places for the table {name}")
    return text


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(written(path), encoding="utf-8")
