"""R_s and its forecast, where both are known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import regrow
from regrow.core.schedules import Constant, Cosine, Every
from regrow.methods import build
from regrow.metrics.exploration import forecast

SHAPES = {"a": (10, 10), "b": (5, 4, 3, 3)}


def test_one_update_by_hand() -> None:
    """D = .2, p = .5: .1 of the weights grow among the .9 that are inactive once .1 are dropped."""
    start, end = forecast(SHAPES, {"a": 0.2, "b": 1.0}, Constant(0.5), Every(10), 19)
    assert (start.step, start.layers) == (0, {"a": 0.2, "b": 1.0})
    assert start.overall == pytest.approx(200 / 280)
    assert end.step == 10
    assert end.layers == {"a": pytest.approx(0.2 + 0.8 * 0.1 / 0.9), "b": 1.0}


def test_updates_keep_to_their_window() -> None:
    every = Every(10, start=0.2, end=0.75)
    course = forecast(SHAPES, {"a": 0.2, "b": 0.2}, Cosine(0.5), every, 100)
    assert [rates.step for rates in course] == [0, 20, 30, 40, 50, 60, 70]
    assert len(course) == 1 + every.updates(100)
    assert [rates.overall for rates in course] == sorted(rates.overall for rates in course)


def test_a_run_without_updates_explores_nothing_more() -> None:
    assert [rates.overall for rates in forecast(SHAPES, {"a": 0.1, "b": 0.1}, Constant(0.5), Every(10), 9)] == [0.1]


def test_forecast_meets_a_real_run_layer_by_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 100))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    method = build("set-itop", every=Every(3))
    sparsifier = regrow.sparsify(model, optimizer, method=method, density=0.1, total_steps=60)
    foreseen = forecast(
        sparsifier.topology.shapes, sparsifier.topology.densities(), Cosine(0.5, 0.005), Every(3), total_steps=60
    )
    for _ in range(60):
        model(torch.randn(2, 100)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert foreseen[-1].step == sparsifier.step == 60
    assert foreseen[-1].overall == pytest.approx(sparsifier.exploration_rate, abs=0.01)
    assert foreseen[-1].layers == pytest.approx(sparsifier.explored.densities(), abs=0.015)
