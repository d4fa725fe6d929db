"""How many configurations a method needs: errors against the number of frames trained on.

A point is a family of models (those that differ in their seed alone) on a method's data sets of one
size: the mean over seeds. Between points the curve is a straight line in the logarithms of both;
one that rises somewhere is made to fall by averaging neighbours (isotonic regression), so that it
passes each level once. Errors are those of the jackknife over seeds, of the logarithm; of two
methods the same seed is left out of both, so that what a seed does to both cancels.

References
----------
B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (SIAM, 1982), chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.core.files import write_text
from mlsel.evaluate.csv_table import read_table
from mlsel.evaluate.seeds import FEWEST, RESOLVED, by_family
from mlsel.evaluate.tables import as_csv
from mlsel.study.folder import size_of

COLUMNS = ("dataset", "model", "kind", "n", "max", "rmse", "mae")

Point = Mapping[str, Any]


def points_of(rows: Sequence[Mapping[str, Any]], frames: Mapping[str, int]) -> list[Point]:
    """Return the models that learning curves are drawn through; none without a set of a size.

    Those of the study's own data sets are among them where the same model is: the first frames of
    a data set are what a smaller selection by the same method gives.

    Parameters
    ----------
    rows : of errors.csv
        Of force components, all frames and elements.
    frames : by <data set>/<model>
        How many it was trained on.
    """
    found = {}
    sized = {(size_of(r["dataset"])[0], r["model"]) for r in rows if size_of(r["dataset"])[1]}
    for row in sorted(rows, key=lambda row: size_of(row["dataset"])[1] or 0):
        key = size_of(row["dataset"])[0], row["model"]
        n = frames[f"{row['dataset']}/{row['model']}"]
        if key in sized:
            found[*key, n] = {**row, "n": n}
    return list(found.values())


def write_points(points: Sequence[Point], path: Path) -> None:
    """Write learning.csv."""
    write_text(path, as_csv(COLUMNS, points))


def read_points(path: Path) -> list[Point]:
    """Read learning.csv.

    Raises
    ------
    MlselError
        If there is none, or it is damaged.
    """
    if not path.is_file():
        raise MlselError(
            f"There is no {path}: give [learning] n = [32, 64, 128] in the study, and then "
            "`mlsel selection`, `mlsel training` and `mlsel evaluate`."
        )
    return [
        {**row, "n": int(row["n"]), **{key: float(row[key]) for key in ("max", "rmse", "mae")}}
        for row in read_table(path, COLUMNS)
    ]


@dataclass(frozen=True)
class Curve:
    """The learning curve of a family of models by one method.

    Attributes
    ----------
    method, family : names without their seeds
    n : (n_sizes,)
        Frames, rising.
    values : (n_seeds, n_sizes)
        Errors, eV/Å, of the seeds that have all sizes.
    seeds : numbers of these
    """

    method: str
    family: str
    n: FloatArray
    values: FloatArray
    seeds: tuple[int, ...]

    @cached_property
    def mean(self) -> FloatArray:
        mean: FloatArray = self.values.mean(axis=0)
        return mean

    @cached_property
    def error(self) -> FloatArray:
        """Standard errors of the means, NaN for one seed."""
        n = len(self.seeds)
        if n < 2:
            return np.full(len(self.n), np.nan)
        error: FloatArray = self.values.std(axis=0, ddof=1) / math.sqrt(n)
        return error

    def without(self, seed: int) -> FloatArray:
        """The means without one seed."""
        mean: FloatArray = self.values[[s != seed for s in self.seeds]].mean(axis=0)
        return mean


def curves(points: Sequence[Point], measure: str = "rmse") -> list[Curve]:
    """Return the curves that points of two sizes and more make."""
    by_size: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    for n in sorted({point["n"] for point in points}):
        at = by_family(
            {**point, "dataset": size_of(point["dataset"])[0]}
            for point in points
            if point["n"] == n
        )
        for key, seeds in at.items():
            by_size.setdefault(key, {})[n] = {s: each[measure] for s, each in seeds.items()}
    made = []
    for (method, family), sizes in by_size.items():
        common = sorted(set.intersection(*(set(seeds) for seeds in sizes.values())))
        if len(sizes) > 1 and common:
            values = np.array([[seeds[s] for seeds in sizes.values()] for s in common])
            made.append(Curve(method, family, np.array([*sizes], float), values, tuple(common)))
    return made


def crossing(n: FloatArray, errors: FloatArray, level: float) -> float:
    """Return how many frames an error level takes.

    Parameters
    ----------
    n, errors : (n_sizes,)
    level : eV/Å

    Returns
    -------
    float
        0 if the smallest size is enough, infinity if the largest is not, NaN where an error is no
        number.

    Examples
    --------
    >>> n = np.array([10.0, 100.0, 1000.0])
    >>> round(crossing(n, 1 / np.sqrt(n), 0.05), 6), crossing(n, 1 / np.sqrt(n), 0.5)
    (400.0, 0.0)
    """
    from scipy.optimize import isotonic_regression

    if not (np.isfinite(errors) & (errors > 0)).all():
        return math.nan
    falling = isotonic_regression(np.log(errors), increasing=False).x
    wanted = math.log(level)
    if falling[0] <= wanted:
        return 0.0
    if falling[-1] > wanted:
        return math.inf
    k = int(np.argmax(falling <= wanted))
    share = (falling[k - 1] - wanted) / (falling[k - 1] - falling[k])
    return float(n[k - 1] * (n[k] / n[k - 1]) ** share)


@dataclass(frozen=True)
class Need:
    """How many frames a level takes a curve.

    Attributes
    ----------
    curve : Curve
    level : eV/Å
    n : frames; 0 if the smallest size is enough, infinity if the largest isn't
    error : standard error of n, NaN where it is not known
    """

    curve: Curve
    level: float
    n: float
    error: float

    @classmethod
    def of(cls, curve: Curve, level: float) -> Need:
        n = crossing(curve.n, curve.mean, level)
        if not 0 < n < math.inf or len(curve.seeds) < FEWEST:
            return cls(curve, level, n, math.nan)
        logs = _logs_without(curve, level, curve.seeds)
        return cls(curve, level, n, n * _jackknife(logs))

    @property
    def words(self) -> str:
        """ "force with 130 ± 20"; how it stands where it is beside the sizes that were tried."""
        if math.isnan(self.n):
            return f"{self.curve.method}: an error is no number"
        if self.n == 0:
            return f"{self.curve.method} with {self.curve.n[0]:.0f} or fewer"
        if math.isinf(self.n):
            return f"{self.curve.method} not with {self.curve.n[-1]:.0f}"
        if math.isnan(self.error):
            why = "one seed" if len(self.curve.seeds) == 1 else f"{len(self.curve.seeds)} seeds"
            if len(self.curve.seeds) >= FEWEST:
                why = "not without one of the seeds"
            return f"{self.curve.method} with about {_rounded(self.n, self.n / 4)} ({why})"
        return (
            f"{self.curve.method} with {_rounded(self.n, self.error)} ± "
            f"{_rounded(self.error, self.error)}"
        )


def _logs_without(curve: Curve, level: float, seeds: Sequence[int]) -> FloatArray:
    """ln n without each seed, NaN where the level is not passed."""
    found = np.array([crossing(curve.n, curve.without(seed), level) for seed in seeds])
    passed = np.isfinite(found) & (found > 0)
    return np.log(np.where(passed, found, np.nan))


def _jackknife(values: FloatArray) -> float:
    n = len(values)
    return float(math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum())))


def _rounded(value: float, error: float) -> str:
    """A number of frames to as many digits as its error has one of (two below 20)."""
    if not error > 0:
        return f"{value:.0f}"
    digits = math.floor(math.log10(error))
    if error / 10**digits < 2:
        digits -= 1
    step = 10 ** max(digits, 0)
    return f"{round(value / step) * step:.0f}"


def ratio(first: Need, second: Need) -> tuple[float, float]:
    """Return how many times as many frames the second takes, and how many standard errors ln of it
    is from 0; NaN where that isn't known."""
    own = first.curve.seeds
    seeds = [seed for seed in own if seed in second.curve.seeds]
    if not all(0 < need.n < math.inf for need in (first, second)) or len(seeds) < FEWEST:
        return math.nan, math.nan
    apart = math.log(second.n / first.n)
    logs = [_logs_without(need.curve, need.level, seeds) for need in (second, first)]
    error = _jackknife(logs[0] - logs[1])
    return math.exp(apart), abs(apart) / error if error > 0 else math.nan


def level_of(own: Sequence[Curve]) -> float:
    """Return a level that all curves pass, without any one seed too: the middle (of logarithms) of
    those that none passes before its smallest size; if there is none, the lowest.

    To two digits, where the two-digit number is such a level.
    """
    means = [curve.mean for curve in own]
    means += [c.without(seed) for c in own if len(c.seeds) > 1 for seed in c.seeds]
    low = max(float(np.nanmin(mean)) for mean in means)
    high = min(float(mean[0]) for mean in means)
    if not low < high:
        return _two_digits(low, math.ceil)
    middle = math.sqrt(low * high)
    rounded = _two_digits(middle, round)
    return rounded if low < rounded < high else middle


def _two_digits(value: float, whole: Callable[[float], int]) -> float:
    digits = 1 - math.floor(math.log10(value))
    return round(whole(value * 10.0**digits * (1 - 1e-9)) / 10.0**digits, digits)


def needs(points: Sequence[Point], levels: Sequence[float], measure: str = "rmse") -> list[Need]:
    """Return what each level takes each curve; without levels, one for each family that
    all its curves pass."""
    found = []
    for family, own in _families(points, measure).items():
        del family
        for level in levels or [level_of(own)]:
            found += [Need.of(curve, level) for curve in own]
    return found


def _families(points: Sequence[Point], measure: str) -> dict[str, list[Curve]]:
    grouped: dict[str, list[Curve]] = {}
    for curve in curves(points, measure):
        grouped.setdefault(curve.family, []).append(curve)
    return grouped


def sentences(
    points: Sequence[Point], levels: Sequence[float], measure: str = "rmse"
) -> list[str]:  # fmt: skip
    """Return what the curves say, a sentence for each family and level."""
    found = needs(points, levels, measure)
    told = []
    for family, level in dict.fromkeys((need.curve.family, need.level) for need in found):
        own = [need for need in found if (need.curve.family, need.level) == (family, level)]
        own.sort(key=lambda need: need.n)
        each = ", ".join(need.words for need in own)
        told.append(
            f"{family}: {measure.upper()} {level:.3g} eV/Å is reached by {each} configurations"
            f"{_compared(own)}."
        )
    return told


def _compared(own: Sequence[Need]) -> str:
    """What may be said of pairs: that one takes fewer, beyond RESOLVED standard errors."""
    pairs = [(a, b, *ratio(a, b)) for a, b in combinations(own, 2)]
    known = [pair for pair in pairs if not math.isnan(pair[3])]
    if not known:
        few = min((len(need.curve.seeds) for need in own), default=0)
        why = f" ({few} seed{'s' if few != 1 else ''}, {FEWEST} are needed)" if few < FEWEST else ""
        return f"; no two can be compared{why}" if len(own) > 1 else ""
    clear = [
        f"{a.curve.method} needs {times:.1f} times fewer than {b.curve.method} ({sigmas:.1f} "
        "standard errors)"
        for a, b, times, sigmas in known
        if sigmas > RESOLVED
    ]
    if not clear:
        return (
            f"; no difference between two is beyond {RESOLVED:g} standard errors "
            f"({len(known)} compared)"
        )
    return (
        f"; of {len(known)} pairs compared {len(clear)} differ{'s' if len(clear) == 1 else ''} by "
        f"more than {RESOLVED:g} standard errors: {'; '.join(clear)}"
    )
