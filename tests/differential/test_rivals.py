"""The largest inactive entries of G^T X, found without writing it out, against those of the written one."""

from __future__ import annotations

import pytest
import torch

from regrow.core.patterns import UNSTRUCTURED
from regrow.execution import images, native, rivals
from regrow.execution.conv_ops import Geometry, filter_gradients

KERNELS = [name for name in native.available() if name != "reference"]
pytestmark = [pytest.mark.usefixtures("isa"), pytest.mark.parametrize("isa", KERNELS, indirect=True)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("batch", "out", "width", "density"),
    [(4, 150, 130, 0.05), (7, 33, 65, 0.3), (1, 5, 3, 0.0), (33, 64, 64, 0.5), (2, 3, 200, 0.9), (3, 40, 900, 1.0)],
)
def test_the_best_are_those_of_the_whole(batch: int, out: int, width: int, density: float, threads: int) -> None:
    """Integers, so that sums are exact and ties many; any number of them, in any layout."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    grad, x = torch.randint(-3, 4, (batch, out)).float(), torch.randint(-3, 4, (width, batch)).float().t()
    active = (torch.rand(out * width) < density).nonzero().squeeze(1)
    inactive = out * width - active.numel()
    for k in {0, 1, inactive // 9, inactive // 2, inactive}:
        for kind in (torch.int32, torch.int64):
            position, size = rivals.of_product(grad, x if k % 2 else x.contiguous(), active.to(kind), k)
            whole = UNSTRUCTURED.collect(grad.t() @ x, active.to(kind), k)
            kept = torch.isin(position, whole.position)
            assert position.dtype is kind
            assert bool((position[1:] > position[:-1]).all())
            assert torch.equal(position[kept], whole.position)
            assert torch.equal(size[kept], whole.score)
            assert not bool(torch.isin(position, active).any())
    torch.set_num_threads(before)


def test_a_nan_is_the_least_and_infinity_the_largest() -> None:
    grad, x = torch.ones(2, 9), torch.ones(2, 70)
    grad[0, 4], x[1, 3] = torch.nan, torch.inf
    active = torch.tensor([0, 3, 100], dtype=torch.int32)
    position, size = rivals.of_product(grad, x, active, 9 * 70 - 3)
    whole = UNSTRUCTURED.collect(grad.t() @ x, active, 9 * 70 - 3)
    assert torch.equal(position, whole.position)
    assert torch.equal(size, whole.score)


def test_what_one_thread_finds_too_much_is_not_written() -> None:
    """Nor what the next one finds, though that has room for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    grad, x = torch.ones(3, 256), torch.ones(3, 128)
    grad[:, 128:] = 0
    grad[:, 200] = 1  # 128 entries, of the second thread
    nothing, room = torch.empty(0, dtype=torch.int32), 512
    position, size = torch.full((1 << 16,), -1, dtype=torch.int32), torch.full((1 << 16,), -1.0)
    factors = (factor.t().contiguous().t() for factor in (grad, x))
    assert rivals._seek(*factors, (), nothing, 0.5, position[:room], size[:room]) > room
    torch.set_num_threads(before)
    assert bool((position[room:] == -1).all())
    assert bool((size[room:] == -1).all())


def test_bfloat16_is_summed_in_float() -> None:
    grad, x = (torch.randn(16, side).bfloat16() for side in (20, 30))
    position, size = rivals.of_product(grad, x, torch.empty(0, dtype=torch.int32), 600)
    torch.testing.assert_close(size, (grad.float().t() @ x.float()).abs().view(-1)[position.long()])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_best_of_filters_are_those_of_the_whole(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers again; the threshold is guessed from few."""
    monkeypatch.setattr(rivals, "_FEW", 64)
    how = Geometry((3, 3), (2, 1), (1, 1), (1, 1))
    x = images.lanes(torch.randint(-3, 4, (5, 13, 6, 7)).to(kind))
    grad = images.lanes(torch.randint(-3, 4, (5, 21, *how.size(6, 7))).to(kind))
    whole = filter_gradients(grad, x, how.flat(), slice(None))
    active = (torch.rand(whole.numel()) < 0.2).nonzero().squeeze(1).int()
    for k in (0, 1, 300, whole.numel() - active.numel()):
        found = rivals.of_filters(grad, x, how.flat(), active, k)
        assert found is not None
        wanted = UNSTRUCTURED.collect(whole.flatten(1), active, k)
        kept = torch.isin(found[0], wanted.position)
        assert torch.equal(found[0][kept], wanted.position)
        assert torch.equal(found[1][kept], wanted.score)
        assert not bool(torch.isin(found[0], active).any())


def test_what_does_not_fit_one_thread_s_room_leaves_the_others_in_theirs() -> None:
    """All but a column of what is large lies in the first half of the rows; what follows the room is not ours."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    k, grad, x = 1000, torch.ones(1, 300), torch.ones(1, 200)
    grad[:, :150] = grad[:, 299] = 2
    position, size = (torch.full((8 * k,), 7, dtype=kind) for kind in (torch.int32, torch.float32))
    arguments = (
        grad,
        300,
        x,
        False,
        200,
        1,
        torch.empty(0, dtype=torch.int32),
        0,
        False,
        1.5,
        position,
        size,
        k,
        torch.empty(264),
        2,
    )
    assert native.call("rivals", *arguments) >= 151 * 200
    assert bool((position[k:] == 7).all())
    assert bool((size[k:] == 7).all())
    torch.set_num_threads(before)
