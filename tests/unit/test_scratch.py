"""Memory apart from the heap: what passes shares one mapping, what lasts waits for the next of its size."""

from __future__ import annotations

import gc
import mmap

import pytest
import torch

from regrow.execution import scratch
from regrow.execution.scratch import Arena, Pool

MB = 1 << 20


def place(view: memoryview) -> int:
    return torch.frombuffer(view, dtype=torch.uint8).data_ptr()


def taken(arena: Arena, size: int) -> memoryview:
    view = arena.take(size)
    assert view is not None
    return view


def test_what_passes_does_not_overlap_and_fills_the_gaps() -> None:
    arena = Arena()
    first, second = taken(arena, 3 * MB), taken(arena, MB)
    first[:], second[:] = bytes(3 * MB), b"\1" * MB
    assert not any(first[::4096])
    at = place(first)
    del first
    third = taken(arena, 2 * MB)  # where the first one was
    assert place(third) == at
    assert all(second[::4096])


def test_what_does_not_fit_is_refused() -> None:
    arena = Arena()
    most = taken(arena, scratch._MOST)
    assert arena.take(1) is None
    del most
    taken(arena, 1)


def test_what_has_been_used_stays_for_the_next() -> None:
    arena = Arena()
    view = taken(arena, MB)
    view[0] = 7
    del view
    assert taken(arena, MB)[0] == 7


def test_released_memory_goes_back_once_nothing_is_in_use() -> None:
    arena = Arena()
    arena.release()  # nothing has been asked for
    view = taken(arena, MB)
    view[0] = 7
    arena.release()
    assert view[0] == 7
    assert arena._memory is not None
    del view
    assert arena._memory is None
    assert taken(arena, MB)[0] == 0


def test_a_pool_hands_out_again_what_came_back_and_nothing_else() -> None:
    pool = Pool()
    one, other = pool.take(2 * MB), pool.take(2 * MB)
    one[0], other[0] = 1, 2
    del one
    assert pool.take(MB)[0] == 0  # of another size
    assert pool.take(2 * MB)[0] == 1
    assert other[0] == 2
    del other
    pool.release(MB)
    assert pool.take(2 * MB)[0] == 2
    pool.release()
    assert pool.take(2 * MB)[0] == 0


def test_what_comes_again_as_large_lasts_and_what_changes_is_the_heap_s(monkeypatch: pytest.MonkeyPatch) -> None:
    lasted = []
    monkeypatch.setattr(scratch, "lasting", lambda n, dtype: lasted.append(n) or torch.empty(n, dtype=dtype))
    sizes = (MB, MB, MB, 2 * MB, MB, 3 * MB, 3 * MB)
    for n in sizes:
        assert scratch.recurring(("a layer", 1), n, torch.float32).shape == (n,)
    assert lasted == [MB, MB, 3 * MB]


def test_a_housed_copy_is_apart_from_the_heap() -> None:
    large, small = torch.rand(MB, 1), torch.rand(9)
    copy = scratch.housed(large)
    assert torch.equal(copy, large)
    assert copy.data_ptr() % mmap.PAGESIZE == 0
    assert scratch.housed(small) is small
    scratch.trim()


@pytest.fixture
def arena(monkeypatch: pytest.MonkeyPatch) -> scratch.Arena:
    """One of the test's own, where nobody else has a place."""
    arena = scratch.Arena()
    monkeypatch.setattr(scratch, "_ARENA", arena)
    return arena


def test_what_passes_for_longer_moves_to_the_lowest_place(arena: scratch.Arena) -> None:
    below = scratch.passing(MB, torch.uint8)
    above = scratch.passing(MB, torch.uint8).fill_(3)
    at = below.data_ptr()
    del below
    moved = scratch.lowered(above)
    assert torch.equal(moved, above)
    assert moved.data_ptr() <= at
    assert arena._memory is not None
    small, held = torch.rand(9), len(arena._taken)
    assert scratch.lowered(small) is small
    del above  # whose place is another's
    assert (len(arena._taken), len(arena._views)) == (held, held)


@pytest.mark.usefixtures("arena")
def test_what_moves_may_reach_into_its_own_place() -> None:
    below, above = (scratch.passing(n, torch.uint8) for n in (MB, 3 * MB))
    values = torch.arange(3 * MB).to(torch.uint8)
    above.copy_(values)
    del below
    moved = scratch.lowered(above)
    assert moved.data_ptr() < above.data_ptr() < moved.data_ptr() + 3 * MB
    assert torch.equal(moved, values)


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
