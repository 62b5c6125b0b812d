"""Run, show, compare, resume: what a person does with finished and stopped runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import Call

REGROW = [sys.executable, "-c", "from regrow.cli import main; main()"]
LONGER = ["smoke/digits", "--set", "epochs=60", "--runs", "runs"]


def result(runs: Path) -> dict[str, object]:
    (path,) = runs.rglob("result.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_run_is_finished_once_and_shown(call: Call, tmp_path: Path) -> None:
    first = call("run", "smoke/digits", "--seeds", "0,1")
    assert first.exit_code == 0, first.output
    assert "smoke-digits" in first.stdout
    assert " ± " in first.stdout
    assert "epoch 2/2" in first.stderr
    (parent,) = (tmp_path / "runs").iterdir()
    assert {folder.name for folder in parent.iterdir()} == {"seed_0", "seed_1"}
    stored = (parent / "seed_1" / "result.json").read_bytes()

    again = call("run", "smoke/digits", "--seeds", "0,1")
    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert again.stderr.count("finished") == 2
    assert (parent / "seed_1" / "result.json").read_bytes() == stored

    shown = call("show", parent / "seed_1")
    assert shown.exit_code == 0
    for word in ("finished after 40 steps", "val_accuracy", "fc1.weight", "64x64", "R_s"):
        assert word in shown.stdout


def test_a_finished_run_names_another_commit(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regrow.train.surroundings.commit", lambda: "aaaa")
    assert call("run", "smoke/dense").exit_code == 0
    assert "commit" not in call("run", "smoke/dense").stderr
    monkeypatch.setattr("regrow.train.surroundings.commit", lambda: "bbbb")
    assert "finished, by another commit (aaaa, now bbbb)" in call("run", "smoke/dense").stderr


def test_compare_in_words_and_numbers(call: Call) -> None:
    assert call("run", "smoke/digits").exit_code == 0
    assert call("run", "smoke/dense").exit_code == 0
    table = call("compare", "runs")
    assert table.exit_code == 0
    for word in ("test %", "density", "R_s", "FLOPs train", "ms/step", "NLL", "ECE", "weights", "MB held", "1.000x"):
        assert word in table.stdout
    dense, sparse = json.loads(call("compare", "runs", "--json").stdout)
    assert (dense["density"], dense["training_flops_ratio"], dense["inference_flops_ratio"]) == (1.0, 1.0, 1.0)
    assert dense["accuracy"] > 0.5
    assert sparse["density"] == pytest.approx(0.2, abs=1e-3)
    assert (dense["backend"], sparse["backend"]) == (None, "masked")
    assert (dense["seconds_ratio"], dense["bytes_ratio"]) == (1.0, 1.0)
    assert sparse["seconds_ratio"] > 0
    assert sparse["bytes_ratio"] > 1  # masks and positions besides
    assert sparse["nnz"] == 947
    assert sparse["exploration_rate"] > 0.2
    assert 0.2 < sparse["training_flops_ratio"] < 0.3  # RigL's dense gradients cost something beside .2


def test_a_narrow_terminal_gets_several_tables() -> None:
    from regrow.cli.tables import _fitting

    groups = _fitting([{"a": "x" * 10, "b": "y" * 10, "c": "z" * 10}], 30)
    assert groups == [["a", "b"], ["a", "c"]]


def test_show_methods_and_recipes(call: Call) -> None:
    methods = call("show", "METHODS")
    assert methods.exit_code == 0
    for word in (
        "rigl-itop",
        "grows by gradient",
        "every=4000 steps",
        "cosine(0.5, 0.005)",
        "keeps its first topology",
        "prunes from density 0.5",
    ):
        assert word in methods.stdout
    recipe = call("show", "itop/cifar100-resnet34-set")
    assert recipe.exit_code == 0
    assert recipe.stdout.startswith("# runs/itop-cifar100-resnet34-set-")
    assert "multiplier: 1.0" in recipe.stdout


def test_killed_and_resumed_ends_the_same(call: Call, tmp_path: Path) -> None:
    process = subprocess.Popen([*REGROW, "run", *LONGER], cwd=tmp_path, stderr=subprocess.DEVNULL)
    folder = wait_for_checkpoint(tmp_path, process).parent
    process.kill()
    process.wait()
    assert not (folder / "result.json").exists()
    assert f"go on with: regrow resume {folder.relative_to(tmp_path)}" in call("show", "runs").stdout
    assert "(1 unfinished)" in call("compare", "runs").stdout
    assert call("resume", "runs").exit_code == 0
    assert call("run", *LONGER[:-1], "whole").exit_code == 0
    for key in ("model_digest", "topology_digest", "test_accuracy", "steps", "exploration_rate"):
        assert result(tmp_path / "runs")[key] == result(tmp_path / "whole")[key]


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background may have been deafened
    process = subprocess.Popen(
        [*REGROW, "run", *LONGER], cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )
    folder = wait_for_checkpoint(tmp_path, process).parent.relative_to(tmp_path)
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Go on with: regrow resume {folder}" in " ".join(words.split())
    assert "Traceback" not in words


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[Any]) -> Path:
    while process.poll() is None:
        if found := list(folder.rglob("checkpoint.pt")):
            return found[0]
        time.sleep(0.01)
    raise AssertionError("the run ended before it could be stopped")
