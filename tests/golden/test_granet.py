"""GraNet as its CIFAR code does it, which keeps one weight less at each pruning and leaves out the last."""

from __future__ import annotations

import pytest
from replay import Golden, Weights, still_sgd, topology_of

import regrow
from regrow.core.schedules import Constant, Every
from regrow.core.site import Clock
from regrow.methods import build
from regrow.methods.pruning import scheduled

GOLDEN = Golden("granet")
EVERY, TOTAL = 20, 320
# initial and final density, first and last step of the pruning (epochs of 10 steps, rounded down to an update)
SETTINGS = [(0.5, 0.1, 0, 200), (1.0, 0.05, 40, 240), (0.5, 0.2, 0, 100)]


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
def test_schedule(setting: int) -> None:
    """Equal at every pruning of theirs; ours has one more, which reaches the final density."""
    initial, final, first, last = SETTINGS[setting]
    window = Every(EVERY, first / TOTAL, last / TOTAL)
    rows = [row for row in GOLDEN[f"schedule{setting}/step_rate_density_keep_nnz"].tolist() if row[3] > 0]
    for step, rate, _, keep, nnz in rows:
        ours = scheduled(Clock(int(step), TOTAL, 0.0, final), window, initial)
        assert ours == pytest.approx(1 - rate, abs=1e-12)
        assert keep == nnz + 1 == pytest.approx(1560 * ours, abs=1.001)  # rounded down
    assert rows[-1][0] + EVERY == last
    assert [scheduled(Clock(step, TOTAL, 0.0, final), window, initial) for step in (last, TOTAL)] == [final, final]


@pytest.mark.parametrize("update", range(4))
def test_update(update: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the sparsifier, at the published code's number of weights."""
    at = f"update/{update}"
    start = topology_of(GOLDEN.layers(f"update/{update - 1 if update else 'in'}/{{}}/mask"))
    keep, step = int(GOLDEN[f"{at}/n_keep_param"]) - 1, int(GOLDEN[f"{at}/step"])
    monkeypatch.setattr("regrow.methods.granet.budget", lambda sites, density: keep)
    fraction = Constant(float(GOLDEN[f"{at}/prune_rate"]))
    method = build("granet", initial=start.density, fraction=fraction, every=Every(EVERY))
    model = Weights(GOLDEN.layers(f"{at}/{{}}/weight_in"))
    optimizer = still_sgd(model)
    sparsifier = regrow.sparsify(model, optimizer, method=method, density=0.1, topology=start, total_steps=TOTAL)
    sparsifier.load_state_dict({**sparsifier.state_dict(), "step": step - 1})
    model.backward(GOLDEN.layers(f"{at}/{{}}/grad"))
    optimizer.step()
    assert sparsifier.topology == topology_of(GOLDEN.layers(f"{at}/{{}}/mask"))
    assert sparsifier.topology.nnz == keep
