"""A recorded function: what it views once shows later changes; what it reads of x comes anew."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from regrow.tickets.graph import recorded


def members(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Weights [M, out, in] and biases [M, out], taken apart; the last is also given as it is."""
    each = [x @ w.t() + b for w, b in zip(weight.unbind(), bias.unbind(), strict=True)]
    return torch.stack(each).relu() + bias.sum()


def test_it_is_the_function_for_other_values_of_x_and_of_the_tensors() -> None:
    tensors = torch.randn(3, 4, 5), torch.randn(3, 4)
    with torch.no_grad():
        ours = recorded(members, torch.randn(2, 5), tensors)
        for tensor in tensors:
            tensor.mul_(-2)
        x = torch.randn(2, 5)
        torch.testing.assert_close(ours(x), members(x, *tensors))


def test_views_of_tensors_are_taken_once() -> None:
    tensors = torch.randn(3, 4, 5), torch.randn(3, 4)
    with torch.no_grad():
        ours = recorded(members, torch.randn(2, 5), tensors)
    targets = [str(node.target) for node in ours.graph.nodes]  # type: ignore[attr-defined]
    assert not any(view in target for target in targets for view in ("unbind", "getitem", "aten.t."))


def test_what_decides_by_values_is_not_recorded() -> None:
    with pytest.raises(Exception, match=r"data-dependent|control flow|bool"):
        recorded(lambda x, t: x if x.sum() > 0 else t, torch.ones(3), [torch.ones(3)])
