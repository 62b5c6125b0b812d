"""fit: records, cadence, resumption and refusals, on a dense job of a few milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from interrupt import Interrupted, stop_at
from regrow.core.errors import RegrowError
from regrow.core.rng import generator
from regrow.train import checkpoint, record, surroundings
from regrow.train.atomic import claim
from regrow.train.devices import launched
from regrow.train.job import Job
from regrow.train.loop import Progress, fit
from regrow.train.paths import RunFolder


class Points:
    """Three noisy clusters."""

    name, shape, classes = "points", (8,), 3

    def __init__(self) -> None:
        self.targets = torch.arange(96) % 3
        self.inputs = torch.randn(96, 8, generator=generator("points")) + 2 * nn.functional.one_hot(self.targets, 8)

    def steps(self, batch_size: int) -> int:
        return 60 // batch_size

    def train(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(60, generator=generator("order", seed, epoch))
        for step in range(start, self.steps(batch_size)):
            batch = order[step * batch_size : (step + 1) * batch_size]
            yield self.inputs[batch], self.targets[batch]

    def evaluate(self, split: str, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        at = slice(60, 78) if split == "val" else slice(78, 96)
        yield self.inputs[at], self.targets[at]


def small_job(**changes: Any) -> Job:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    job = {
        "model": model,
        "optimizer": optimizer,
        "data": Points(),
        "loss": nn.CrossEntropyLoss(),
        "epochs": 3,
        "batch_size": 10,
        "seed": 5,
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]),
        "checkpoint_every": 4,
    }
    return Job(**job | changes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.chdir(tmp_path)  # outside any repository: no commit to change while the test runs
    return RunFolder.of("small-12345678", 5, root=tmp_path / "runs")


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.startswith("seconds")} for row in rows]


def test_a_run_leaves_its_records(folder: RunFolder) -> None:
    told: list[Progress] = []
    result = fit(small_job(flops={"forward": 7}), folder, on_progress=told.append)
    assert folder.path.parts[-2:] == ("small-12345678", "seed_5")
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "checkpoint.pt", "environment.json", "judged.json", "metrics.jsonl", "result.json",
    ]  # fmt: skip
    assert result == record.read_json(folder.result)
    assert result["test_accuracy"] > 0.8
    assert result["steps"] == 18
    assert result["flops"] == {"forward": 7}
    assert result["parameters"] == result["nnz"] == 8 * 16 + 16 + 16 * 3 + 3
    assert result["bytes"] == 2 * 4 * result["parameters"]  # weights and momentum
    rows = record.rows(folder)
    assert [row["step"] for row in rows] == [6, 12, 18]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["lr"] for row in rows] == pytest.approx([0.1, 0.01, 0.001])
    assert [progress.step for progress in told] == list(range(1, 19))
    assert [progress.row for progress in told if progress.row] == rows


def test_a_finished_run_is_returned_as_stored(folder: RunFolder) -> None:
    first = fit(small_job(), folder)
    assert fit(small_job(), folder, on_progress=stop_at(1)) == first


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 7, 12, 17, 18])
def test_resumes_bit_for_bit(folder: RunFolder, tmp_path: Path, stop: int) -> None:
    whole = fit(small_job(), RunFolder(tmp_path / "whole"))
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(stop))
    result = fit(small_job(), folder)
    assert result["model_digest"] == whole["model_digest"]
    assert timeless([result]) == timeless([whole])
    assert timeless(record.rows(folder)) == timeless(record.rows(RunFolder(tmp_path / "whole")))


def test_seconds_add_up_over_a_resume(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(13))
    before = checkpoint.load(folder.checkpoint)["watch"]
    result = fit(small_job(), folder)
    after = checkpoint.load(folder.checkpoint)["watch"]
    assert len(before["ordinary"]) == 12
    assert len(after["ordinary"]) == 18
    assert torch.equal(after["ordinary"][:12], before["ordinary"])
    assert result["seconds"] > before["total"]


def test_a_scheduler_may_step_with_the_optimizer(folder: RunFolder) -> None:
    job = small_job()
    job = small_job(
        model=job.model,
        optimizer=job.optimizer,
        scheduler=torch.optim.lr_scheduler.LinearLR(job.optimizer, 1.0, 0.0, total_iters=18),
        scheduler_every="step",
    )
    fit(job, folder)
    assert job.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_evaluates_as_often_as_asked_and_at_the_end(folder: RunFolder) -> None:
    fit(small_job(evaluate_every=2), folder)
    assert [row["val_accuracy"] is None for row in record.rows(folder)] == [True, False, False]


def test_dropout_differs_from_step_to_step(folder: RunFolder) -> None:
    seen: list[Tensor] = []
    job = small_job()
    job.model[2].register_forward_hook(lambda module, given, out: seen.append(out == 0) if module.training else None)
    fit(job, folder)
    assert not torch.equal(seen[0], seen[1])


def test_a_loss_that_is_not_finite_stops_the_run(folder: RunFolder) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        calls.append(1)
        return nn.functional.cross_entropy(output, target) * (float("nan") if len(calls) == 9 else 1.0)

    calls: list[int] = []
    with pytest.raises(RegrowError, match=r"(?s)loss is nan at step 8 of 18.*learning rate 0\.01.*checkpoint"):
        fit(small_job(loss=loss), folder)  # the validation batch after epoch 1 is the seventh call
    assert checkpoint.load(folder.checkpoint)["step"] == 6
    assert all(torch.isfinite(value).all() for value in checkpoint.load(folder.checkpoint)["model"].values())


def test_another_run_in_the_folder_is_refused(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(7))
    with pytest.raises(RegrowError, match=r"another run \(epochs 3 -> 4\)"):
        fit(small_job(epochs=4), folder)


def test_a_checkpoint_of_another_model_is_refused(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(), folder, on_progress=stop_at(7))
    model = nn.Linear(8, 3)
    with pytest.raises(RegrowError, match="does not fit this job"):
        fit(small_job(model=model, optimizer=torch.optim.SGD(model.parameters()), scheduler=None), folder)


def test_changed_surroundings_are_named(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        fit(small_job(threads=1), folder, on_progress=stop_at(7))
    told: list[str] = []
    fit(small_job(threads=2), folder, on_difference=told.append)
    assert len(told) == 1
    assert "continues at step 6, but not bit for bit" in told[0]
    assert "threads 1 -> 2" in told[0]


def test_the_default_voice_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="threads"):
        surroundings.warn("threads 1 -> 2")


def test_threads_are_given_back(folder: RunFolder) -> None:
    before = torch.get_num_threads()
    fit(small_job(threads=before + 1), folder)
    assert torch.get_num_threads() == before


def test_two_processes_do_not_train_in_one_folder(folder: RunFolder) -> None:
    with claim(folder.path), pytest.raises(RegrowError, match="another process is training"):
        fit(small_job(), folder)


def test_a_batch_larger_than_the_data_is_refused(folder: RunFolder) -> None:
    with pytest.raises(RegrowError, match="batch_size 61 is larger than the training split of 'points'"):
        fit(small_job(batch_size=61), folder)


def test_bf16_autocast_trains(folder: RunFolder) -> None:
    job = small_job()
    with launched("cpu", "bf16-mixed") as fabric:
        assert fit(job, folder, fabric)["test_accuracy"] > 0.8
    assert {parameter.dtype for parameter in job.model.parameters()} == {torch.float32}
    assert json.loads(folder.environment.read_text())["precision"] == "bf16-mixed"


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [("cpuu", "32-true", "unknown device 'cpuu'; did you mean 'cpu'?"), ("cpu", "bf16", "unknown precision 'bf16'")],
)
def test_unknown_device_or_precision(device: str, precision: str, message: str) -> None:
    with pytest.raises(RegrowError) as caught, launched(device, precision):
        pass
    assert message in str(caught.value)
