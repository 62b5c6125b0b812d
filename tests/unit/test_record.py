"""Records: whole lines only, no paths of the user, every file of a run named in one place."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import torch

import regrow
from regrow.core.errors import RegrowError
from regrow.train import atomic, record, surroundings
from regrow.train.devices import launched
from regrow.train.paths import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder


def test_rows_come_back_in_order(folder: RunFolder) -> None:
    assert record.rows(folder) == []
    for step in (3, 6, 9):
        record.add_row(folder, {"step": step, "loss": 0.1 + step})
    assert [row["step"] for row in record.rows(folder)] == [3, 6, 9]
    assert record.rows(folder)[0]["loss"] == 3.1


@pytest.mark.parametrize("torn", ["", "{", '{"step": 12, "lo', '{"step": 12, "loss": 1.0}', '{"step": 1, "x": "é'])
def test_a_torn_last_line_is_dropped(folder: RunFolder, torn: str) -> None:
    for step in (3, 6, 9):
        record.add_row(folder, {"step": step})
    with folder.metrics.open("ab") as file:
        file.write(torn.encode()[: len(torn)])
    assert [row["step"] for row in record.rows(folder)] == [3, 6, 9]
    record.cut_back(folder, 6)
    assert folder.metrics.read_text() == '{"step": 3}\n{"step": 6}\n'
    record.add_row(folder, {"step": 9})
    assert [row["step"] for row in record.rows(folder)] == [3, 6, 9]


def test_cutting_back_nothing_creates_nothing(folder: RunFolder) -> None:
    record.cut_back(folder, 0)
    assert list(folder.path.iterdir()) == []


def test_unreadable_json_is_named(folder: RunFolder) -> None:
    folder.result.write_text('{"test_')
    with pytest.raises(RegrowError, match=r"cannot read .*result\.json"):
        record.read_json(folder.result)


def test_the_environment_says_where_but_not_whose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with launched("cpu") as fabric:
        found = record.environment(surroundings.surroundings(fabric))
    assert {"regrow", "torch", "python", "commit", "threads", "instruction set", "device", "cpu", "platform"} <= set(
        found
    )
    assert found["commit"] is None
    text = json.dumps(found)
    for path in (Path.home(), tmp_path, Path(regrow.__file__).parent, Path(torch.__file__).parent):
        assert f"{path}/" not in f"{text}/"


def test_the_commit_and_its_cleanliness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    clean = surroundings.commit()
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "file").write_text("2")
    assert surroundings.commit() == f"{clean}-dirty"


def test_differences_are_named_both_ways() -> None:
    stored = {"torch": "2.6", "threads": 2, "gone": 1}
    now = {"torch": "2.13", "threads": 2, "device": "cpu"}
    assert surroundings.differences(stored, now) == [
        "torch 2.6 -> 2.13", "gone 1 -> unknown", "device unknown -> cpu",
    ]  # fmt: skip
    assert surroundings.differences(now, now) == []


def test_a_write_replaces_the_whole_file_and_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    atomic.write(path, b"a long first version")
    (path.parent / ".file.part").write_bytes(b"left by a kill, longer than what comes now")
    atomic.write(path, b"short")
    assert path.read_bytes() == b"short"
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_every_file_of_a_run_has_its_own_name() -> None:
    folder = RunFolder.of("itop-0123abcd", 3)
    assert folder.path == Path("runs/itop-0123abcd/seed_3")
    names = [folder.recipe, folder.environment, folder.metrics, folder.checkpoint, folder.result, folder.topology(40)]
    assert len(set(names)) == 6
    assert folder.topology(40) == folder.path / "topology" / "40.pt"
    assert not folder.finished
