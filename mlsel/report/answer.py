"""The answer: which data set to train on, by how much, how sure; no more than the tables allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mlsel.evaluate.seeds import FEWEST, RESOLVED, plus_minus
from mlsel.report.findings import Findings


def answer(found: Findings) -> list[str]:
    """Return the answer's sentences, the most important one first."""
    told = [
        *(f"▲ {sentence}" for sentence in (*found.doubts, *found.md_doubts)),
        _best_data(found),
        *found.learning,
        _others_agree(found),
        _in_md(found),
        _not_converged(found),
    ]
    return [sentence for sentence in told if sentence]


def comparisons_made(found: Findings) -> str:
    """How many comparisons the sentences rest on, and that none is corrected for."""
    n = sum(len(rows) for rows in _compared(found).values())
    if not n:
        return ""
    return (
        f"{n} pair{'s' if n != 1 else ''} of data sets compared, each by paired differences over "
        f"seeds; “differs” means beyond {RESOLVED:g} standard errors, without a correction for the "
        "number of comparisons (of equals 1 in 9 is beyond with five seeds)."
    )


def _compared(found: Findings) -> dict[str, list[Mapping[str, str]]]:
    """RMSE comparisons of each family that has seeds enough."""
    families: dict[str, list[Mapping[str, str]]] = {}
    for row in found.comparisons:
        if row["measure"] == "rmse" and int(row["n"]) >= FEWEST:
            families.setdefault(row["family"], []).append(row)
    return families


def _ranked(found: Findings, family: str) -> list[Mapping[str, str]]:
    """The data sets that a family was compared on, the lowest mean RMSE first."""
    compared = {row[key] for row in _compared(found)[family] for key in ("first", "second")}
    own = [r for r in found.summary if r["family"] == family and r["dataset"] in compared]
    return sorted(own, key=lambda row: float(row["rmse"]))


def _best_family(found: Findings) -> str:
    """The family with the smallest errors of those that were compared, "" if none was."""
    families = [name for name in _compared(found) if _ranked(found, name)]
    return min(families, key=lambda name: float(_ranked(found, name)[0]["rmse"]), default="")


def _best_data(found: Findings) -> str:
    if not found.comparisons:
        return "Data sets were not compared: that takes the errors of models on two of them."
    family = _best_family(found)
    if not family:
        seeds = max(int(row["n"]) for row in found.comparisons)
        return (
            f"With {seeds} seed{'s' if seeds != 1 else ''} of each model no order of methods can "
            "be told: set selection.seeds = 5 and give `mlsel run` again."
        )
    lowest = _ranked(found, family)[0]
    best = lowest["dataset"]
    own = [row for row in _compared(found)[family] if best in (row["first"], row["second"])]
    beaten, equals = [], []
    for row in own:
        other = row["second"] if row["first"] == best else row["first"]
        if row["smaller"] == best:
            by = plus_minus(abs(float(row["difference"])), float(row["error"]))
            beaten.append(f"{other} (by {by})")
        else:
            equals.append(other)
    mean = f"{plus_minus(float(lowest['rmse']), float(lowest['rmse_error']))} eV/Å"
    seeds = min(int(row["n"]) for row in own)
    if not beaten:
        return (
            f"No data set can be preferred: {best} has the lowest mean RMSE of force components "
            f"({mean}, {family}, {seeds} seeds), but no difference from {', '.join(equals)} is "
            f"beyond {RESOLVED:g} standard errors."
        )
    unresolved = f"; from {', '.join(equals)} it can't be told apart" if equals else ""
    return (
        f"Train on {' or '.join([best, *equals])}: with {family} the RMSE of force components on "
        f"{best} ({mean}, {seeds} seeds) is more than {RESOLVED:g} standard errors below that on "
        f"{', '.join(beaten)}{unresolved}."
    )


def _others_agree(found: Findings) -> str:
    """What the other models say of the data set in front."""
    best = _best_family(found)
    others = [name for name in _compared(found) if name != best and _ranked(found, name)]
    if not others:
        return ""
    front = _ranked(found, best)[0]["dataset"]
    told = []
    for name in others:
        own = [r for r in _compared(found)[name] if front in (r["first"], r["second"])]
        better = sum(row["smaller"] == front for row in own)
        worse = sum(row["smaller"] not in (front, "") for row in own)
        told.append(f"{name} better than {better}, worse than {worse} of {len(own)}")
    return (
        f"Told by the other models beyond {RESOLVED:g} standard errors, {front} is: "
        f"{'; '.join(told)} data sets."
    )


def _not_converged(found: Findings) -> str:
    """What is to be said of models that max_epochs stopped."""
    stopped = len(found.not_converged)
    if not stopped:
        return ""
    n = sum(row["ended"] is not None for row in found.models)
    return (
        f"{stopped} of {n} models that learn in epochs were stopped at max_epochs while their "
        "held-out loss could still fall: they are not converged, and what is said of them is of "
        "trainings as short as these (training.schnet.max_epochs)."
    )


def _in_md(found: Findings) -> str:
    judged = [v for v in found.validation.get("verdicts", []) if v["kind"] != "reference"]
    if not judged:
        return "No model was judged in MD."
    counts = Counter(verdict["word"] for verdict in judged)
    words = ", ".join(f"{n} “{word}”" for word, n in counts.items())
    held = found.validation.get("held_against", {})
    beside = {"pool": " beside the pool's own trajectories", "none": " without a reference"}
    return f"In MD{beside.get(held.get('kind'), '')} the verdict on {len(judged)} models: {words}."
