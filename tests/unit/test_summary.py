from __future__ import annotations

import torch
from torch import nn

import regrow


def test_it_says_what_why_and_what_it_costs() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.BatchNorm1d(30), nn.MultiheadAttention(30, 2))
    sparsifier = regrow.sparsify(
        model, torch.optim.SGD(model.parameters(), lr=0.1), density=0.25, total_steps=1000, topology="uniform"
    )
    lines = [line.split() for line in sparsifier.summary().splitlines()]
    rows = {line[0]: line[1:] for line in lines if line}
    assert rows["parameter"] == ["shape", "density", "nnz", "why"]
    assert rows["0.weight"] == ["30x20", "0.2500", "150", "sparse:", "weight", "of", "Linear"]
    assert rows["2.in_proj_weight[q]"][:3] == ["30x30", "0.2500", "225"]
    assert rows["0.bias"] == ["30", "30", "dense:", "bias", "or", "vector"]
    assert rows["1.weight"] == ["30", "30", "dense:", "normalisation"]
    text = sparsifier.summary()
    assert "0.2500 (1050 of 4200 weights in 5 sites)" in text
    assert "R_s      0.2500" in text
    assert "Every(interval=100, start=0.0, end=0.75)" in text
    assert "no faster and no smaller than dense training" in text
