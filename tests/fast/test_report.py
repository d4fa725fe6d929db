"""The page: what it says, and how a real browser shows it."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlsel.report.pool_map as pool_map_module
from mlsel.core.errors import MlselError
from mlsel.evaluate.seeds import write_tables
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.report.page import table
from mlsel.report.pool_map import Map, components
from mlsel.report.stage import write_report
from mlsel.validate.verdict import WORDS
from tests.support import Tolerance
from tests.support.training_data import frames, write_pool

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

MEASURE = """
<script>
const widths = [1280, 390], found = {};
const page = document.getElementById("page").textContent;
function mapped(inner, view) {  // what the map shows, before and after clicks
  const plot = inner.querySelector(".plot"), bars = inner.querySelector(".bars");
  const told = inner.querySelector(".told"), [toggle] = inner.querySelectorAll(".toggles button");
  const seen = canvas => [...canvas.toDataURL()].reduce(
    (sum, letter, k) => (sum + letter.charCodeAt(0) * (k % 997)) % 1e9, 0);
  const before = [seen(plot), seen(bars)];
  toggle.click();
  const after = [seen(plot), seen(bars)];
  const box = plot.getBoundingClientRect();
  const middle = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2};
  plot.dispatchEvent(new view.MouseEvent("click", middle));
  return {drawn: before, redrawn: after, told: told.textContent, right: box.right,
          toggles: [...inner.querySelectorAll(".toggles button")].map(b => b.textContent)};
}
function look(width) {
  return new Promise(done => {
    const frame = document.createElement("iframe");
    frame.width = width; frame.height = 900;
    frame.onload = async () => {
      const inner = frame.contentDocument, view = frame.contentWindow;
      await Promise.all([...inner.images].map(image => image.decode().catch(() => null)));
      const heads = [...inner.querySelectorAll("th")];
      const column = heads.find(head => head.textContent === "RMSE / eV Å⁻¹");
      const rows = () => [...column.closest("table").tBodies[0].rows].map(
        row => Number(row.cells[column.cellIndex].dataset.value));
      column.click(); const up = rows(); column.click(); const down = rows();
      found[width] = {
        images: [...inner.images].map(image => ({
          alt: image.alt, natural: image.naturalWidth,
          left: image.getBoundingClientRect().left, right: image.getBoundingClientRect().right,
          height: image.getBoundingClientRect().height,
          opacity: view.getComputedStyle(image).opacity})),
        overflow: inner.documentElement.scrollWidth - view.innerWidth,
        font: parseFloat(view.getComputedStyle(inner.body).fontSize), up, down,
        words: [...inner.querySelectorAll("td.word")].map(cell => cell.textContent),
        first: inner.querySelector(".answer .first").getBoundingClientRect().bottom,
        verdicts: [...inner.querySelectorAll(".detailed td, .detailed th")].map(
          cell => cell.getBoundingClientRect().right),
        reasons: inner.querySelectorAll(".details li").length, ...mapped(inner, view)};
      done();
    };
    frame.srcdoc = page; document.body.append(frame);
  });
}
(async () => { for (const width of widths) await look(width);
  document.getElementById("found").textContent = JSON.stringify(found); })();
</script>
"""


SETS = {"random": [5, 20, 33, 48], "atomic-energy": [0, 1, 40]}


def error_rows() -> str:
    lines = ["dataset,model,kind,part,element,quantity,unit,n,max,rmse,mae"]
    for place, method in enumerate(("random", "global-energy", "atomic-energy")):
        for kind in ("schnet", "gap"):
            lines.append(
                f"{method},{kind}-x,{kind},all,all,force_component,eV/Å,300,"
                f"{1.5 - 0.3 * place},{0.09 - 0.02 * place},0.05"
            )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with a validation of real, very short MD and errors made up."""
    from mlsel.core.parallel import world
    from mlsel.study.study import load_study
    from mlsel.validate.stage import validate
    from tests.mpi.test_validation import altered, write_study

    place = tmp_path_factory.mktemp("report")
    study = load_study(
        str(write_study(place)),
        ["validation.duration=0.3", altered(place, "soft", 0.09)],
    )
    validate(study, place / "tiny", world())
    (place / "tiny" / "evaluation").mkdir()
    (place / "tiny" / "evaluation" / "errors.csv").write_text(error_rows(), encoding="utf-8")
    write_tables(list(csv.DictReader(error_rows().splitlines())), place / "tiny" / "evaluation")
    write_pool(place / "tiny" / "pool.h5", [frames(30), frames(20, seed=2)])
    (place / "tiny" / "data").mkdir()
    with Pool(place / "tiny" / "pool.h5") as pool:
        for name, ids in SETS.items():
            made_from = {"pool_digest": pool.digest}
            write_subset(pool, ids, place / "tiny" / "data" / f"{name}.h5", made_from)
    write_report(place / "tiny")
    return place / "tiny"


def test_the_page_needs_nothing_beside_it(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert not re.search(r"<script[^>]+src=|@import|url\(", text)
    for link in re.findall(r'href="([^"]+)"', text):
        assert link.startswith("data:") or (folder / link).is_file(), link
    for words in ("Figure 1", "Figure 2", "Figure 3", "The paper", "Here", "Verdicts", "Versions"):
        assert words in text
    assert "gap-x: random 0.09, global-energy 0.07, atomic-energy 0.05 (1 seed: no order" in text
    assert "@media print" in text
    before = text
    write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == before


def test_the_page_in_a_browser(folder: Path, tmp_path: Path) -> None:
    """No console error; every figure inside the window at desktop and phone width; tables sort."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no chromium on PATH: the page was not looked at in a browser")
    text = (folder / "report.html").read_text(encoding="utf-8")
    probe = tmp_path / "probe.html"
    probe.write_text(
        '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
        f'<textarea id="page" hidden>{html.escape(text)}</textarea><pre id="found"></pre>'
        f"{MEASURE}",
        encoding="utf-8",
    )
    done = look(browser, probe, tmp_path)
    assert "CONSOLE" not in done.stderr, done.stderr
    shown = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(shown[1]))
    assert set(found) == {"1280", "390"}
    for width, page in found.items():
        assert page["images"], "no figure"
        for image in page["images"]:
            assert image["natural"] > 100 and image["height"] > 100 and image["opacity"] == "1"
            assert 0 <= image["left"] < image["right"] <= int(width)
        assert page["overflow"] <= 0, f"wider than the window of {width}"
        assert page["font"] >= 16
        assert page["up"] == sorted(page["up"]) and page["down"] == sorted(page["up"])[::-1]
        assert page["words"][0] in WORDS
        assert page["first"] < 600, "the answer is not what one reads first"
        assert max(page["verdicts"]) <= int(width) and page["reasons"] >= len(page["words"])
        assert page["toggles"] == ["atomic-energy (3)", "random (4)"]
        assert page["right"] <= int(width)
        for before, after in zip(page["drawn"], page["redrawn"], strict=True):
            assert before and after and before != after
        assert re.match(r"Frame \d+: run-[01], number \d+ of it; 4 Na 4 Cl; ", page["told"])
    # The page itself, opened as a user does.
    direct = look(browser, folder / "report.html", tmp_path)
    assert "CONSOLE" not in direct.stderr, direct.stderr
    assert "</html>" in direct.stdout


def look(browser: str, path: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Open a page and return its text once it is drawn, and what the console said."""
    return subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={scratch / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            "--dump-dom",
            path.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )


def comparison(seeds: int, folder: Path, **values: list[float]) -> str:
    """Write the tables of an evaluation and return the page."""
    head = "dataset,model,kind,part,element,quantity,unit,n,max,rmse,mae"
    rows = [
        dict(
            zip(
                head.split(","),
                [
                    method.replace("_", "-"),
                    f"{kind}-x" + (f"-s{seed}" if seed > 1 else ""),
                    *(kind, "all", "all", "force_component", "eV/Å", "300", "1"),
                    str(each[seed - 1] if kind == "net" else 0.105),
                    "0.05",
                ],
                strict=True,
            )
        )
        for method, each in values.items()
        for kind in ("net", "pair")
        for seed in range(1, (seeds if kind == "net" else 1) + 1)
    ]
    place = folder / "evaluation"
    place.mkdir(exist_ok=True)
    text = "\n".join([head, *(",".join(row.values()) for row in rows)]) + "\n"
    (place / "errors.csv").write_text(text, encoding="utf-8")
    write_tables(rows, place)
    return html.unescape(write_report(folder).read_text(encoding="utf-8"))


def test_the_answer_comes_first_and_says_no_more_than_the_table(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    folder.mkdir()
    low, high = [0.100, 0.090, 0.110, 0.100, 0.095], [0.150, 0.141, 0.159, 0.150, 0.144]
    page = comparison(5, folder, random=high, force=low)
    assert "Train on force: with net-x" in page and "random (by 0.0498 ±" in page
    assert page.index("The answer") < page.index("Figure 2") < page.index("Figure 1")
    assert "This is a demo" in page
    # The pair potential's RMSE is 0.105.
    assert page.count("▲ loses") == sum(value > 0.105 for value in low + high)
    equal = comparison(5, folder, random=low, force=low[::-1])
    assert "No data set can be preferred" in equal and "Train on" not in equal
    one = comparison(1, folder, random=high, force=low)
    assert "With 1 seed of each model no order of methods can be told" in one
    assert "selection.seeds = 5" in one and "Train on" not in one


def test_overlap_of_data_sets_by_hand(tmp_path: Path) -> None:
    pool = tmp_path / "pool.h5"
    write_pool(pool, [frames(20)])
    (tmp_path / "data").mkdir()
    with Pool(pool) as opened:
        for name, ids in (("a", [0, 1, 2, 3]), ("b", [3, 2, 10, 11, 12])):
            write_subset(opened, np.array(ids), tmp_path / "data" / f"{name}.h5", {})
    page = write_report(tmp_path).read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if "<td>a</td><td>b</td>" in line)
    assert re.findall(r'data-value="([^"]+)"', row) == ["2", "1.0"]  # 4 · 5 / 20


def test_tables_escape_and_mark_numbers() -> None:
    text = table({"a": "<A>", "b": "B"}, [{"a": "x<y", "b": 2}, {"a": "z", "b": None}])
    assert "&lt;A&gt;" in text and "x&lt;y" in text
    assert '<td class="number" data-value="2">2</td>' in text and "–</td>" in text


def test_verdicts_of_an_earlier_version_are_not_misread(folder: Path) -> None:
    path = folder / "validation" / "verdicts.json"
    text = path.read_text(encoding="utf-8")
    path.write_text('{"definitions": {}, "speeds": {}, "verdicts": [{"name": "a"}]}')
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "earlier version of mlsel: `mlsel validate` makes them anew" in page
    path.write_text(text, encoding="utf-8")
    write_report(folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "earlier version" not in page
    soft = next(v for v in json.loads(text)["verdicts"] if v["name"] == "soft")
    assert soft["word"] in page and html.escape(soft["reasons"][0]) in page
    assert f"({soft['numbers']['energy']['sigmas']:.1f} σ)" in page


def test_an_empty_folder_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="holds nothing to report on"):
        write_report(tmp_path)


def test_places_of_frames_are_what_an_svd_gives(tmp_path: Path) -> None:
    """Principal components of descriptors, each frame with what it is and who chose it."""
    path = write_pool(tmp_path / "pool.h5", [frames(30), frames(20, seed=2)])
    rows = np.random.default_rng(1).standard_normal((40, 6)) * [9, 1, 3, 1, 1, 1]
    places, shares = components(rows)
    left, values, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(left * values)[:, :2], atol=Tolerance.SUMS)
    np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:2])
    with Pool(path) as pool:
        found = Map.of(pool, np.array([3, 40]))
        (block,) = pool.blocks("forces", "energy", "cell", frame_ids=np.array([40]))
    assert found.frame_ids.tolist() == list(range(50)) and found.shares.sum() <= 1 + 1e-12
    assert found.properties["energy"][40] == pytest.approx(block["energy"][0] / 8)
    largest = np.linalg.norm(block["forces"][0], axis=1).max()
    assert found.properties["force"][40] == pytest.approx(largest)
    volume = abs(np.linalg.det(block["cell"][0])) / 8
    assert found.properties["volume"][40] == pytest.approx(volume)


def test_of_a_large_pool_the_chosen_frames_are_on_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_map_module, "MOST_FRAMES", 10)
    with Pool(write_pool(tmp_path / "pool.h5", [frames(30)])) as pool:
        found = Map.of(pool, np.array([1, 2]))
    assert found.frame_ids.tolist() == sorted({*np.linspace(0, 29, 10).astype(int), 1, 2})


def test_errors_beside_their_parts(tmp_path: Path) -> None:
    """99.99 %, atomic energies and parts of the test set, where they were measured."""
    head = "dataset,model,kind,part,element,quantity,unit,n,max,rmse,mae,q9999,q9999_error"
    lines = [
        "random,pair,pair,all,all,force_component,eV/Å,9,1,0.1,0.05,0.61,0.02",
        "random,pair,pair,all,Na,force_component,eV/Å,9,1,0.11,0.05,nan,nan",
        "random,pair,pair,melt,all,force_component,eV/Å,9,1,0.12,0.05,nan,nan",
        "random,pair,pair,all,all,atomic_energy,eV,9,1,0.25,nan,nan,nan",
        "random-n8,pair,pair,all,all,force_component,eV/Å,9,1,0.77,0.05,nan,nan",
    ]
    (tmp_path / "evaluation").mkdir()
    text = "\n".join([head, *lines]) + "\n"
    (tmp_path / "evaluation" / "errors.csv").write_text(text, encoding="utf-8")
    page = html.unescape(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "0.61 ± 0.02" in page and 'data-value="250.0"' in page
    assert "By melt and crystal" in page and "<td>melt</td>" in page and "<td>Na</td>" in page
    assert "0.77" not in page, "learning curves have their own figure"
    assert "shares no frame with any training" in page
