"""The page of run folders: every figure holds data, what is missing is said, damage is named, no number is NaN."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from run_folders import make, write

from regrow.report.cells import cells
from regrow.report.compare import cells as in_words
from regrow.report.compare import compare
from regrow.report.figure import Figure, Table
from regrow.report.page import page, sections_of
from regrow.report.read import Found, gather, suite
from regrow.report.spread import Spread
from regrow.train.paths import RunFolder

EVERYTHING = {
    "cost": ("Accuracy against training FLOPs", "Accuracy against training seconds", "Accuracy against bytes held"),
    "curves": ("Accuracy on validation", "Loss on training data"),
    "topology": (
        "Exploration rate R_s", "Accuracy against R_s", "R_s of each layer", "Density of each layer",
        "How density moved", "Birth and age of connections",
    ),
    "predictions": ("Reliability", "Corrupted inputs", "Corruptions by severity"),
    "tickets": ("Disagreement", "Shared connections", "Between tickets"),
    "choices": ("Density",),
}  # fmt: skip


def found(paths: Iterable[Path]) -> Found:
    return gather(RunFolder(path) for path in paths)


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    sparse = [(method, density) for method in ("rigl", "set") for density in (0.1, 0.2)]
    return [make(tmp_path, *recipe, seed) for recipe in [(None, None), *sparse] for seed in (0, 1)]


def figures(paths: Iterable[Path]) -> dict[str, list[Figure]]:
    return {section.key: list(section.figures) for section in sections_of(cells(found(paths).runs))}


def test_every_figure_is_there_holds_data_and_says_what_to_see(runs: list[Path]) -> None:
    drawn = figures(runs)
    assert list(drawn) == list(EVERYTHING)
    for key, titles in EVERYTHING.items():
        for title in titles:
            assert any(figure.title.startswith(title) for figure in drawn[key]), title
    for figure in (figure for several in drawn.values() for figure in several):
        assert figure.marks > 0, figure.title
        assert len(figure.caption.split()) > 5, figure.title
        assert figure.caption.endswith("."), figure.title
        inside = ElementTree.fromstring(figure.body)
        marks = [mark for mark in inside.iter() if mark.tag in ("path", "rect", "td") and mark.get("class") != "grid"]
        assert len(marks) > 1, figure.title
        if inside.tag == "svg":
            assert figure.caption.split(".")[0] in (inside.get("aria-label") or "")


def test_the_page_stands_alone(runs: list[Path]) -> None:
    html = page(found(runs), runs[0].parents[1])
    assert not re.findall(r"""(?:src|href)=["'](?!#)|url\(|@import|https?://""", html)
    assert html.count("</figure>") == html.count("<figcaption>") == sum(map(len, figures(runs).values()))
    assert "regrow run images-rigl.yaml --seeds 0,1" in html
    assert "interval: 100" in html
    assert "c0ffee" in html
    assert "numpy 2.0" in html
    for form in ("LaTeX", "Markdown", "CSV"):
        assert f"Results as {form}" in html


def test_what_is_missing_is_said_with_the_command(tmp_path: Path) -> None:
    folder = make(tmp_path)
    for name in ("evaluation.json", "judged.json"):
        (folder / name).unlink()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    old = [{key: value for key, value in row.items() if not isinstance(value, dict)} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    assert set(figures([folder])) == {"curves", "topology"}
    html = page(found([folder]), folder)
    for command in (f"regrow evaluate {folder} --corruptions", "--seeds 0,1,2,3,4", "regrow run demo/rigl-itop"):
        assert command in html
    whole = page(found([make(tmp_path / "new")]), tmp_path)
    assert "--corruptions" not in whole
    assert "Reliability diagrams." not in whole


def test_an_unfinished_run_shows_how_far_it_is(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder / "result.json").unlink()
    html = page(found([folder]), folder)
    assert "No run is finished yet." in html
    assert f"regrow resume {folder}" in html
    assert "curves" in figures([folder])


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("result.json", '{"test_', "cannot read"),
        ("result.json", '{"test_accuracy": 0.9}', "result.json lacks density"),
        ("result.json", "[1]", "result.json holds no record"),
        ("recipe.yaml", "{", "expected"),
        ("recipe.yaml", "only words", "recipe.yaml is no recipe"),
        ("metrics.jsonl", "no row\n", "Expecting value"),
        ("evaluation.json", "\x00", "cannot read"),
    ],
)
def test_a_damaged_folder_is_left_out_by_name(runs: list[Path], file: str, content: str, reason: str) -> None:
    (runs[3] / file).write_text(content)
    there = found(runs)
    assert [run.folder.path for run in there.runs] == runs[:3] + runs[4:]
    assert [skipped.path for skipped in there.skipped] == [runs[3]]
    assert reason in there.skipped[0].reason
    html = page(there, runs[0].parents[1])
    assert f"<code>{runs[3]}</code>" in html
    assert f"<code>{runs[3]}</code>" in page(found([runs[3]]), runs[3]), "even where nothing is left to show"


@pytest.mark.parametrize("worse", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["result.json", "evaluation.json", "judged.json", "metrics.jsonl"])
def test_every_number_on_the_page_is_one(tmp_path: Path, name: str, worse: str) -> None:
    """Numbers of a run, one after another and all at once, become none: a dash, or a mark left out."""
    good, bad = make(tmp_path, "set"), make(tmp_path, "rigl")
    text = (bad / name).read_text()
    numbers = [found.span() for found in re.finditer(r"(?<=[ \[])\d[\d.e-]*", text)]
    spoilt = [text[:start] + worse + text[end:] for start, end in numbers[:: 1 + len(numbers) // 12]]
    for content in (*spoilt, re.sub(r"0\.\d+", worse, text)):
        (bad / name).write_text(content)
        html = page(found([good, bad]), tmp_path).replace(str(tmp_path), "")
        told = re.sub(r"<(style|script)>.*?</\1>|\(json[^)]*\)", "", html, flags=re.DOTALL)
        assert not re.search(r"(?<![a-z])(nan|inf|infinity)(?![a-z])", told, re.IGNORECASE)


def test_a_suite_gives_what_it_varied(tmp_path: Path) -> None:
    folders = [make(tmp_path, "rigl", 0.1, seed, epochs=epochs) for epochs in (5, 10) for seed in (0, 1)]
    entries = [
        {"folder": str(folder.relative_to(tmp_path)), "values": {"epochs": epochs, "seed": seed}, "state": "finished"}
        for folder, epochs, seed in zip(folders, (5, 5, 10, 10), (0, 1, 0, 1), strict=True)
    ]
    entries.append({"folder": "images-rigl-00000000/seed_0", "values": {"epochs": 20, "seed": 0}, "state": "pending"})
    home = tmp_path / "suites" / "lengths-01234567"
    home.mkdir(parents=True)
    write(home / "suite.json", {"name": "lengths", "hash": "01234567", "runs": entries})
    varied = suite(home)
    assert varied is not None
    there = gather(map(RunFolder, varied), varied)
    assert [dict(run.values) for run in there.runs] == [{"epochs": 5}] * 2 + [{"epochs": 10}] * 2
    assert [path.name for path in there.waiting] == ["seed_0"]
    assert "4 of 5 finished" in page(there, home)
    assert [cell.label for cell in cells(there.runs)] == ["images-rigl, epochs 5", "images-rigl, epochs 10"]
    (choice,) = figures_of(there)["choices"]
    assert choice.title == "Epochs: against 5"
    assert "2 pairs of runs" in choice.caption
    assert suite(tmp_path) is None


def figures_of(there: Found) -> dict[str, list[Figure]]:
    return {section.key: list(section.figures) for section in sections_of(cells(there.runs))}


def test_the_page_and_the_terminal_agree(runs: list[Path]) -> None:
    there = found(runs)
    html = page(there, runs[0].parents[1])
    for row in compare(there.runs):
        for title, words in in_words(row).items():
            assert title == "runs" or f"<td>{words}</td>" in html


def test_tables_are_copied_whole() -> None:
    table = Table("T", "", ["a_b", "%"], [["x & y", "1 ± 2"], ['say "a,b"', "-"]])
    assert table.latex.splitlines()[0] == r"\begin{tabular}{lr}"
    assert r"x \& y & 1 $\pm$ 2 \\" in table.latex
    assert r"a\_b & \% \\" in table.latex
    assert table.markdown.splitlines()[1:3] == ["| :-- | --: |", "| x & y | 1 ± 2 |"]
    assert table.csv.splitlines()[2] == '"say ""a,b""",-'


def test_intervals_are_students() -> None:
    spread = Spread.of([1.0, 2.0, 3.0, None])
    assert spread is not None
    assert (spread.mean, spread.std, spread.n) == (2.0, 1.0, 3)
    assert spread.half == pytest.approx(2.484, abs=1e-3)  # t of 2 degrees of freedom, over sqrt(3)
    assert Spread.of([None]) is None
    alone = Spread.of([1.0])
    assert alone is not None
    assert alone.half == 0.0


def test_two_hundred_runs_make_a_page_of_a_few_megabytes(tmp_path: Path) -> None:
    paths = [
        make(tmp_path, method, density / 40, seed, batch_size=size)
        for method in ("rigl", "set", "static", "snfs", "gmp")
        for density in (1, 2, 4, 8)
        for size in (32, 64)
        for seed in range(5)
    ]
    assert len(paths) == 200
    html = page(found(paths), tmp_path)
    assert len(html.encode()) < 10_000_000
    assert html.count("</figure>") < 60


def test_cells_have_short_names(tmp_path: Path) -> None:
    paths = [
        make(tmp_path, method, density, name=f"fashion-mlp-{method or 'dense'}-small")
        for method, density in ((None, None), ("set", 0.1), ("set", 0.05), ("rigl", 0.1))
    ]
    assert [cell.label for cell in cells(found(paths).runs)] == ["dense", "set 0.1", "set 0.05", "rigl"]
    alike = [make(tmp_path / "alike", method, 0.1, name="mlp") for method in ("set", "rigl")]
    assert [cell.kind for cell in cells(found(alike).runs)] == ["set", "rigl"]
