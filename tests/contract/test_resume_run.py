"""Law 5 for every method: a run that stopped at any step and was resumed is the run that never stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import small_job

from interrupt import Interrupted, stop_at
from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.methods import METHODS
from regrow.train import checkpoint
from regrow.train.loop import fit
from regrow.train.paths import RunFolder
from regrow.train.state import restore


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)  # outside any repository: no commit to change while the test runs
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_resumes_bit_for_bit_from_every_step(method: str, folder: RunFolder, tmp_path: Path) -> None:
    job = {"method": method, "checkpoint_every": 1, "evaluate_every": 2}
    whole = RunFolder(tmp_path / "whole")
    result = fit(small_job(**job), whole)
    for step in range(1, 12):  # every step, update steps among them, ends one process and begins the next
        with pytest.raises(Interrupted):
            fit(small_job(**job), folder, on_progress=stop_at(step + 1))
    resumed = fit(small_job(**job), folder)
    assert resumed["model_digest"] == result["model_digest"]
    assert resumed["topology_digest"] == result["topology_digest"]
    assert resumed["exploration_by_layer"] == result["exploration_by_layer"]
    states = [checkpoint.load(run.checkpoint) for run in (whole, folder)]
    for part in ("model", "optimizer", "scheduler", "sparsifier", "loss_sum"):
        assert checkpoint.digest(states[0][part]) == checkpoint.digest(states[1][part]), part


def test_a_finished_run_can_be_loaded_back(folder: RunFolder) -> None:
    result = fit(small_job(), folder)
    job = small_job()
    content = restore(job, folder)
    assert content["step"] == 12
    assert job.sparsifier is not None
    assert checkpoint.digest(dict(job.model.state_dict())) == result["model_digest"]
    assert job.sparsifier.topology.digest() == result["topology_digest"]
    stored = Topology.unpack(checkpoint.load(folder.topology(12)))
    assert stored == job.sparsifier.topology
    for name in stored:
        assert not job.model.state_dict()[name][~stored[name]].any()


def test_another_method_is_refused(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(5))
    with pytest.raises(RegrowError, match=r"does not fit this job: .* differs .*method"):
        fit(small_job(method="static"), folder)


def test_dense_does_not_continue_sparse(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(5))
    with pytest.raises(RegrowError, match=r"one has a sparsifier and the other has none"):
        fit(small_job(sparsifier=None), folder)


def test_a_corrupt_checkpoint_is_refused_and_kept(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(5))
    broken = folder.checkpoint.read_bytes()[:-100]
    folder.checkpoint.write_bytes(broken)
    with pytest.raises(RegrowError, match="cannot be read") as caught:
        fit(small_job(), folder)
    assert str(folder.checkpoint) in str(caught.value)
    assert folder.checkpoint.read_bytes() == broken
