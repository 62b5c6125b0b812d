from __future__ import annotations

import pytest
import torch
from torch import nn

from regrow import RegrowError
from regrow.execution.parts import locate, survey


def model() -> nn.ModuleDict:
    frozen = nn.Linear(4, 4)
    frozen.requires_grad_(False)
    return nn.ModuleDict(
        {
            "embed": nn.Embedding(5, 4),
            "conv": nn.Conv1d(4, 4, 3, bias=False),
            "norm": nn.GroupNorm(2, 4),
            "attend": nn.MultiheadAttention(4, 2, bias=False),
            "recurrent": nn.GRU(4, 4, bias=False),
            "frozen": frozen,
            "head": nn.Linear(4, 2),
        }
    )


def test_every_parameter_has_a_verdict_with_its_reason() -> None:
    assert {v.name: v.reason for v in survey(model())} == {
        "embed.weight": "dense: embedding",
        "conv.weight": "sparse: weight of Conv1d",
        "norm.weight": "dense: normalisation",
        "norm.bias": "dense: normalisation",
        "attend.in_proj_weight": "sparse: weight of MultiheadAttention",
        "attend.out_proj.weight": "sparse: weight of NonDynamicallyQuantizableLinear",
        "recurrent.weight_ih_l0": "dense: parameter of GRU, sparse only if include names it",
        "recurrent.weight_hh_l0": "dense: parameter of GRU, sparse only if include names it",
        "frozen.weight": "dense: frozen (requires_grad is False)",
        "frozen.bias": "dense: bias or vector",
        "head.weight": "sparse: weight of Linear",
        "head.bias": "dense: bias or vector",
    }


@pytest.mark.parametrize(
    ("include", "exclude", "sites"),
    [
        (["recurrent"], [], ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0"]),
        (["*_hh_*", "head"], [], ["recurrent.weight_hh_l0", "head.weight"]),
        (["conv", "head"], ["head"], ["conv.weight"]),
        ([], ["attend", "conv"], ["head.weight"]),
        (["attend.in_proj_weight[k]"], [], ["attend.in_proj_weight[k]"]),
        (
            ["attend"],
            ["attend.in_proj_weight[k]", "*out_proj"],
            ["attend.in_proj_weight[q]", "attend.in_proj_weight[v]"],
        ),
    ],
)
def test_patterns(include: list[str], exclude: list[str], sites: list[str]) -> None:
    verdicts = survey(model(), include, exclude)
    assert [part.name for verdict in verdicts for part in verdict.parts] == sites


def test_parts_of_a_fused_projection_are_its_rows() -> None:
    whole = model()
    (verdict,) = (v for v in survey(whole) if v.name == "attend.in_proj_weight")
    assert [part.start for part in verdict.parts] == [0, 16, 32]
    rows = whole["attend"].in_proj_weight
    assert torch.equal(verdict.parts[1].of(rows), rows[4:8].reshape(-1))
    mask = verdict.parts[2].mask(torch.tensor([0, 5]))
    assert mask.shape == (12, 4)
    assert mask.nonzero().tolist() == [[8, 0], [9, 1]]


def test_parts_are_logical_in_any_layout() -> None:
    conv = nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    (part,) = survey(conv)[0].parts
    assert torch.equal(part.of(conv.weight), conv.weight.contiguous().view(-1))
    assert torch.equal(part.mask(torch.tensor([5])).contiguous().view(-1).nonzero().squeeze(), torch.tensor(5))


def test_locate() -> None:
    found = locate(model(), ["head.weight", "attend.in_proj_weight[v]"])
    assert found["attend.in_proj_weight[v]"].start == 32
    with pytest.raises(RegrowError, match=r"'heda\.weight', the model has no such weight; did you mean 'head\.weight'"):
        locate(model(), ["heda.weight"])
    with pytest.raises(RegrowError, match=r"in_proj_weight\[q\], .*in_proj_weight\[v\]"):
        locate(model(), ["attend.in_proj_weight[z]"])
