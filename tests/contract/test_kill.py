"""Law 5 under SIGKILL: whatever the moment, what resumes ends bit-identical, and no half-written file is ever read."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from kill_child import FILE_CALLS, UPDATE_CALLS, Kill, spawn

from regrow.train import checkpoint, record
from regrow.train.paths import RunFolder

pytestmark = pytest.mark.usefixtures("children")

LONG: dict[str, Any] = {"epochs": 12, "method": "snfs"}
NAMED = 4 * ["write", "fsync", "replace", "fsync"]  # the calls of writing one file
# environment, checkpoint at 4, row and checkpoint at 6, checkpoint at 8, row and checkpoint at 12, topology, judged,
# result
CALLS = [*NAMED[:8], "write", "fsync", *NAMED[:8], "write", "fsync", *NAMED[:16]]
MOMENTS = [(at, moment) for at in range(len(CALLS)) for moment in ("before", "after")]
MOMENTS += [(at, "middle") for at, call in enumerate(CALLS) if call == "write"]
CASES = [("masked", *case) for case in MOMENTS]
CASES += [("sparse", at, moment) for at, moment in MOMENTS if moment != "after"]  # as before the next: files alike

MEASURED = ("checkpoint_bytes", "bytes_topology")
"""Of the process and the file, not of the run: what buffers it holds at its end, how its timings are spelled."""


def outcome(folder: Path) -> dict[str, Any]:
    """All that a run ends with but its timings: the digests of weights and topology among it."""
    stored = RunFolder(folder)
    result = record.read_json(stored.result)
    state = checkpoint.load(stored.checkpoint)
    kept = {name: state[name] for name in ("step", "model", "optimizer", "scheduler", "sparsifier")}
    rows = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in record.rows(stored)]
    timeless = {k: v for k, v in result.items() if not k.startswith("seconds") and k not in MEASURED}
    return {"result": timeless, "rows": rows, "state": checkpoint.digest(kept)}


def run_to_end(folder: Path, **changes: Any) -> dict[str, Any]:
    process = spawn(folder, **changes)
    process.join()
    assert process.exitcode == 0
    return outcome(folder)


def check_files_are_whole(folder: Path) -> None:
    stored = RunFolder(folder)
    for path in (stored.environment, stored.result):
        if path.exists():
            json.loads(path.read_text())
    for path in (stored.checkpoint, *folder.glob("topology/*.pt")):
        if path.exists():
            checkpoint.load(path)
    record.rows(stored)


@pytest.fixture(scope="module", params=["masked", "sparse"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, backend: str) -> dict[str, Any]:
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = run_to_end(folder, backend=backend)
    assert folder.with_suffix(".calls").read_text().split() == CALLS, "the moments below are not all there are"
    assert ended["result"]["exploration_rate"] > 1.2 * ended["result"]["density"], "the topology moves"
    return ended


@pytest.mark.parametrize(("backend", "at", "moment"), CASES, indirect=["backend"])
def test_killed_around_a_write(whole: dict[str, Any], backend: str, tmp_path: Path, at: int, moment: str) -> None:
    killed = spawn(tmp_path / "run", Kill(FILE_CALLS, at, moment), backend=backend)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    check_files_are_whole(tmp_path / "run")
    assert run_to_end(tmp_path / "run", backend=backend) == whole


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("at", range(6))
def test_killed_in_an_update(whole: dict[str, Any], backend: str, tmp_path: Path, at: int, moment: str) -> None:
    """Call 0 is the first update; most of the others are inside one, where topology and weights disagree."""
    killed = spawn(tmp_path / "run", Kill(UPDATE_CALLS, at, moment), backend=backend)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert run_to_end(tmp_path / "run", backend=backend) == whole


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("at", range(4))
def test_killed_while_resuming(whole: dict[str, Any], backend: str, tmp_path: Path, at: int, moment: str) -> None:
    """The first process leaves a row that is past its checkpoint; the second dies as it cuts it off."""
    for kill in (Kill(FILE_CALLS, CALLS.index("write", 9) + 3, "before"), Kill(FILE_CALLS, at, moment)):
        killed = spawn(tmp_path / "run", kill, backend=backend)
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
        check_files_are_whole(tmp_path / "run")
    assert run_to_end(tmp_path / "run", backend=backend) == whole


@pytest.mark.parametrize("calls", range(16, 20))
def test_killed_again_and_again(whole: dict[str, Any], backend: str, tmp_path: Path, calls: int) -> None:
    """Every process dies a few writes after it has resumed."""
    for _ in range(20):
        process = spawn(tmp_path / "run", Kill(FILE_CALLS, calls, "before"), backend=backend)
        process.join()
        check_files_are_whole(tmp_path / "run")
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert outcome(tmp_path / "run") == whole


@pytest.mark.timeout(1200)  # twenty processes and more: on a machine ten times busier than usual, too
@pytest.mark.parametrize(("run", "times"), [(LONG, 20), (LONG | {"backend": "sparse"}, 5)], ids=["masked", "sparse"])
def test_killed_at_random(run: dict[str, Any], times: int, tmp_path: Path) -> None:
    began = time.perf_counter()
    expected = run_to_end(tmp_path / "whole", **run)
    duration = time.perf_counter() - began
    kills = runs = 0
    folder = tmp_path / "0"
    while kills < times:
        process = spawn(folder, **run)
        process.join(random.uniform(0.05, 0.6) * duration)
        process.kill()
        process.join()
        check_files_are_whole(folder)
        kills += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            assert outcome(folder) == expected
            runs += 1
            folder = tmp_path / str(runs)
    assert run_to_end(folder, **run) == expected


@pytest.mark.full
@pytest.mark.parametrize("method", ["set", "rigl", "set-itop", "snfs"])
@pytest.mark.parametrize("at", range(0, len(CALLS), 3))
def test_killed_around_a_write_with_every_method(tmp_path: Path, method: str, at: int) -> None:
    expected = run_to_end(tmp_path / "whole", method=method)
    killed = spawn(tmp_path / "run", Kill(FILE_CALLS, at, "after"), method=method)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert run_to_end(tmp_path / "run", method=method) == expected
