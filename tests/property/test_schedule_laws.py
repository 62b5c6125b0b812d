"""Schedules stay within their bounds and meet their ends; `Every` counts its own updates; shares are whole and fit."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from laws import laws

from regrow import Every
from regrow.core.schedules import Constant, Cosine, Cubic, Cyclic, Linear, Schedule
from regrow.methods.snfs import share_out

values, progress = st.floats(0.0, 1.0), st.floats(0.0, 1.0)


@pytest.mark.parametrize("kind", [Linear, Cosine, Cubic])
@laws
@given(values, values, progress, progress)
def test_from_start_to_stop_one_way(kind: type, start: float, stop: float, t: float, later: float) -> None:
    schedule: Schedule = kind(start, stop)
    assert schedule(0.0) == pytest.approx(start)
    assert schedule(1.0) == pytest.approx(stop, abs=1e-12)
    assert min(start, stop) - 1e-12 <= schedule(t) <= max(start, stop) + 1e-12
    t, later = sorted((t, later))
    assert (schedule(later) - schedule(t)) * (stop - start) >= -1e-12


@laws
@given(values, progress)
def test_constant(value: float, t: float) -> None:
    assert Constant(value)(t) == value


@laws
@given(values, values, st.integers(1, 6), progress)
def test_cyclic_triangles(low: float, high: float, cycles: int, t: float) -> None:
    assume(low < high)
    schedule = Cyclic(low, high, cycles)
    assert low - 1e-12 <= schedule(t) <= high + 1e-12
    for cycle in range(cycles):
        assert schedule(cycle / cycles) == pytest.approx(low, abs=1e-9)
        assert schedule((cycle + 0.5) / cycles) == pytest.approx(high, abs=1e-9)
        assert schedule((cycle + 0.25) / cycles) == pytest.approx((low + high) / 2, abs=1e-9)
    assert schedule(1.0) == pytest.approx(low)


@laws
@given(st.integers(1, 40), st.floats(0.0, 0.9), st.floats(0.05, 1.0), st.integers(1, 400))
@example(3, 0.1, 1.0, 30)
@example(7, 0.0, 0.7, 10)
def test_every_counts_its_updates(interval: int, start: float, end: float, total: int) -> None:
    assume(start < end)
    every = Every(interval, start, end)
    due = [step for step in range(total + 1) if every.due(step, total)]
    assert every.updates(total) == len(due)
    assert all(step % interval == 0 and start * total - 1e-6 <= step <= end * total + 1e-6 for step in due)
    course = [every.progress(step, total) for step in range(total + 1)]
    assert course == sorted(course)
    assert course[0] == 0.0 or start == 0.0
    assert 0.0 <= course[0] <= course[-1] <= 1.0


names = st.sampled_from("abcdef")


@laws
@given(st.dictionaries(names, st.tuples(st.floats(0, 1e6), st.integers(0, 50)), min_size=1), st.data())
def test_shares_are_whole_fit_and_sum(sites: dict[str, tuple[float, int]], data: st.DataObject) -> None:
    weight, room = ({name: pair[i] for name, pair in sites.items()} for i in (0, 1))
    total = data.draw(st.integers(0, sum(room.values())))
    given_ = share_out(total, weight, room)
    assert sum(given_.values()) == total
    assert all(0 <= given_[name] <= room[name] for name in sites)
    assert share_out(total, dict(reversed(weight.items())), room) == given_


@laws
@given(st.dictionaries(names, st.floats(0.001, 1e3), min_size=1), st.integers(0, 200))
def test_shares_are_proportional_where_there_is_room(weight: dict[str, float], total: int) -> None:
    given_ = share_out(total, weight, dict.fromkeys(weight, 10**6))
    mass = sum(weight.values())
    assert all(abs(given_[name] - total * weight[name] / mass) < 1.0 + 1e-6 for name in weight)
