from __future__ import annotations

import pytest

from regrow import Every
from regrow.core.schedules import Constant, Cosine, Cubic, Cyclic, Linear


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(0.3), [0.3, 0.3, 0.3]),
        (Linear(1.0, 0.5), [1.0, 0.75, 0.5]),
        (Cosine(0.5, 0.005), [0.5, 0.2525, 0.005]),
        (Cosine(0.3), [0.3, 0.15, 0.0]),
        (Cubic(0.0, 0.8), [0.0, 0.7, 0.8]),
        (Cyclic(0.001, 0.005), [0.001, 0.005, 0.001]),
        (Cyclic(0.0, 1.0, cycles=2), [0.0, 0.0, 0.0]),
    ],
)
def test_start_middle_end(schedule: Constant, values: list[float]) -> None:
    assert [schedule(t) for t in (0.0, 0.5, 1.0)] == pytest.approx(values)


def test_every() -> None:
    every = Every(3, start=0.2, end=0.75)
    assert [step for step in range(21) if every.due(step, 20)] == [6, 9, 12, 15]
    assert every.updates(20) == 4
    assert [every.progress(step, 20) for step in (0, 4, 15, 20)] == pytest.approx([0.0, 0.0, 1.0, 1.0])
    assert not Every(1).due(0, 10)
    assert not Every(5).due(25, 20)  # past the run
    assert Every(50).updates(20) == 0


def test_a_window_ends_where_decimal_fractions_say() -> None:
    """.35 * 88000 is 30799.999999999996 in floats, .55 * 100 is 55.00000000000001."""
    ends, starts = Every(100, end=0.35), Every(5, start=0.55)
    assert ends.due(30800, 88000)
    assert ends.last(88000) == 100 * ends.updates(88000) == 30800
    assert starts.due(55, 100)
    assert starts.updates(100) == 10
