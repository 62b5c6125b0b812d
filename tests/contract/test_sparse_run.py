"""Laws 3 and 5 in the training loop and under torch.compile, on the sparse backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from backends import start
from small_run import Images, small_model
from torch import nn
from zoo import OPTIMIZERS, STEPS, plain, sparse, train

import regrow
from interrupt import Interrupted, stop_at
from regrow.core.topology import Topology
from regrow.metrics.flops import dense_flops
from regrow.train import checkpoint
from regrow.train.job import Job
from regrow.train.loop import fit
from regrow.train.paths import RunFolder


def job(method: str, backend: str = "sparse") -> Job:
    """12 steps, updates after steps 3, 6 and 9."""
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    sparsifier = regrow.sparsify(
        model, optimizer, method=method, density=0.2, total_steps=12, every=3, seed=3, backend=backend
    )
    return Job(model, optimizer, Images(), nn.CrossEntropyLoss(), 2, 16, 3, sparsifier, checkpoint_every=1, threads=1)


@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "snfs", "set-itop-unexplored"])
def test_resumes_bit_for_bit_from_every_step(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole, folder = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    result = fit(job(method), whole)
    for step in range(1, 12):
        with pytest.raises(Interrupted):
            fit(job(method), folder, on_progress=stop_at(step + 1))
    resumed = fit(job(method), folder)
    for key in ("model_digest", "topology_digest", "exploration_by_layer", "test_loss"):
        assert resumed[key] == result[key]
    states = [checkpoint.load(run.checkpoint) for run in (whole, folder)]
    for part in ("model", "optimizer", "sparsifier", "loss_sum"):
        assert checkpoint.digest(states[0][part]) == checkpoint.digest(states[1][part]), part


def test_the_record_shows_what_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = {b: fit(job("set", b), RunFolder(tmp_path / b)) for b in ("masked", "sparse")}
    spared = 4 * (
        9 * 16 + 9 * 16 * 32 + 512 * 4 - results["sparse"]["nnz"]
    )  # bytes of one float32 tensor that the layer does without
    assert results["masked"]["bytes"] - results["sparse"]["bytes"] == 3 * spared  # weight and AdamW's two moments
    model = job("set").model
    assert dense_flops(model, torch.zeros(1, 1, 8, 8)) == dense_flops(small_model(), torch.zeros(1, 1, 8, 8))


def trained(compiled: bool, method: str) -> Topology:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Tanh(), nn.Linear(16, 4))
    runnable = torch.compile(model, backend="aot_eager") if compiled else model
    optimizer = OPTIMIZERS["sgd-momentum"](model.parameters())
    sparsifier = sparse(runnable, optimizer, method, backend="sparse")
    plain(runnable, optimizer, 1)
    with torch._dynamo.config.patch(error_on_recompile=True):
        train(runnable, optimizer, range(2, STEPS + 1))
    return sparsifier.topology


@pytest.mark.parametrize("method", ["rigl", "rigl-itop", "set"])
def test_compiled_updates_recompile_nothing(method: str) -> None:
    torch._dynamo.reset()
    assert trained(True, method) == trained(False, method)


def test_activation_checkpointing() -> None:
    ends = []
    for again in (False, True):
        model, optimizer, sparsifier = start("sparse", "rigl-itop")
        for step in range(1, STEPS + 1):
            inputs = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(step))
            middle = model[:4](inputs)
            tail = model[4:]
            out = torch.utils.checkpoint.checkpoint(tail, middle, use_reentrant=False) if again else tail(middle)
            out.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(sparsifier.topology)
    assert ends[0] == ends[1]
