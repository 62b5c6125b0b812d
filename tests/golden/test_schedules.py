"""The cosine drop fraction of ITOP, up to the end of the run; beyond it theirs rises again and ours stays."""

from __future__ import annotations

import pytest
from replay import Golden

from regrow.core.schedules import Cosine, Every

GOLDEN = Golden("schedules")


@pytest.mark.parametrize(("total", "start"), [(1000, 0.5), (97750, 0.5), (300, 0.3)])
def test_cosine(total: int, start: float) -> None:
    curve, every = Cosine(start, 0.005), Every(1)
    key = f"cosine_T{total}_p{start}"
    points = list(zip(GOLDEN[f"{key}/step"].tolist(), GOLDEN[f"{key}/rate"].tolist(), strict=True))
    within = [(step, rate) for step, rate in points if step <= total]
    assert len(within) > 100
    for step, rate in within:
        assert curve(every.progress(step, total)) == pytest.approx(rate, abs=1e-9)
    assert all(curve(every.progress(step, total)) == pytest.approx(0.005) for step, _ in points if step >= total)
