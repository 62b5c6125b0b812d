"""Memory apart from the heap: what passes shares one mapping, what lasts waits for the next of its size."""

from __future__ import annotations

import gc

import pytest
import torch

from regrow.execution import scratch
from regrow.execution.scratch import Arena, Pool

MB = 1 << 20


def test_what_passes_does_not_overlap_and_fills_the_gaps() -> None:
    arena = Arena()
    first, second = arena.take(3 * MB), arena.take(MB)
    assert first is not None
    assert second is not None
    first[:], second[:] = bytes(3 * MB), b"\1" * MB
    assert not any(first[::4096])
    at = torch.frombuffer(first, dtype=torch.uint8).data_ptr()
    assert at % scratch.HUGE == 0
    del first
    third = arena.take(2 * MB)  # where the first one was
    assert third is not None
    assert torch.frombuffer(third, dtype=torch.uint8).data_ptr() == at
    assert all(second[::4096])


def test_what_does_not_fit_is_refused() -> None:
    arena = Arena()
    most = arena.take(scratch._MOST)
    assert most is not None
    assert arena.take(1) is None
    del most
    assert arena.take(1) is not None


def test_all_goes_back_once_nothing_is_in_use() -> None:
    arena = Arena()
    view = arena.take(MB)
    assert arena._memory is not None
    del view
    assert arena._memory is None


def test_memory_that_is_held_waits_for_what_passes_next() -> None:
    arena = Arena()
    with arena.held():
        assert arena._memory is None  # nothing has been asked for
        with arena.held():
            view = arena.take(MB)
            assert view is not None
            view[0] = 7
            del view
        again = arena.take(MB)
        assert again is not None
        assert again[0] == 7
        del again
        assert arena._memory is not None
    assert arena._memory is None


def test_memory_is_not_held_past_an_error() -> None:
    arena = Arena()
    with pytest.raises(OverflowError), arena.held():
        scratch._mapped(-1, bool(arena.take(MB)))
    assert arena._memory is None


def test_a_pool_hands_out_again_what_came_back_and_nothing_else() -> None:
    pool = Pool()
    one, other = pool.take(2 * MB), pool.take(2 * MB)
    one[0], other[0] = 1, 2
    del one
    assert pool.take(MB)[0] == 0  # of another size
    assert pool.take(2 * MB)[0] == 1
    assert other[0] == 2
    pool.release()
    assert pool.take(2 * MB)[0] == 0


@pytest.mark.parametrize("make", [scratch.passing, scratch.lasting])
@pytest.mark.parametrize("n", [0, 1, MB])
@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.bool, torch.bfloat16])
def test_tensors(make: object, n: int, kind: torch.dtype) -> None:
    tensor = make(n, kind)  # type: ignore[operator]
    assert tensor.shape == (n,)
    assert tensor.dtype == kind
    assert tensor.is_contiguous()
    part = tensor.fill_(1)[: n // 2]
    del tensor
    gc.collect()
    assert bool((make(n, kind).fill_(0) == 0).all())  # type: ignore[operator]
    assert bool((part == 1).all())  # a view keeps its memory
