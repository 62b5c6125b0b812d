"""regrow report: from real runs to a page, and the same runs in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from cli.conftest import Call
from regrow.train.paths import RunFolder

PLAN = "plan={name: edst, explore: 1, refine: [1, 1], tickets: 2}"


def test_runs_become_a_page(call: Call, tmp_path: Path) -> None:
    assert call("run", "smoke/digits", "--seeds", "0,1").exit_code == 0
    assert call("run", "smoke/dense").exit_code == 0
    done = call("report", "runs")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "runs/report.html"
    html = (tmp_path / "runs" / "report.html").read_text()
    assert len(html.encode()) < 1_000_000
    for title in (
        "Accuracy against training FLOPs",
        "R_s of each layer",
        "Birth and age",
        "Reliability",
        "Accuracy on",
    ):
        assert f"<h3>{title}" in html
    one = call("report", next(iter(tmp_path.glob("runs/smoke-dig*/seed_1"))), "--out", "page.html")
    assert one.exit_code == 0
    assert "Accuracy against training FLOPs" not in (tmp_path / "page.html").read_text()


def test_tickets_are_shown(call: Call, tmp_path: Path) -> None:
    done = call("run", "smoke/digits", "--set", PLAN, "--set", "epochs=null")
    assert done.exit_code == 0, done.output
    (folder,) = tmp_path.glob("runs/*/seed_0")
    judged = json.loads(RunFolder(folder).judged.read_text())
    assert set(judged["systems"]) == {"last", "member 0", "member 1", "ensemble"}
    assert judged["diversity"]["overlaps"][0][0] == 1.0
    (path,) = judged["paths"]
    assert path["at"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert call("evaluate", folder, "--ood", "noise").exit_code == 0
    assert call("report", folder).exit_code == 0
    html = (folder / "report.html").read_text()
    for title in ("Disagreement", "Shared connections", "Between tickets", "Evaluation", "Other data"):
        assert f"<h3>{title}" in html


def test_a_damaged_run_is_named_by_page_and_terminal(call: Call, tmp_path: Path) -> None:
    assert call("run", "smoke/digits", "--seeds", "0,1").exit_code == 0
    (broken,) = tmp_path.glob("runs/*/seed_1/result.json")
    broken.write_text("{")
    for verb in ("report", "compare"):
        done = call(verb, "runs")
        assert done.exit_code == 0
        assert f"left out: {broken.parent.relative_to(tmp_path)}: " in " ".join(done.stderr.split())
    nothing = call("report", "nowhere")
    assert nothing.exit_code == 2
    assert "nowhere holds no run" in nothing.stderr
