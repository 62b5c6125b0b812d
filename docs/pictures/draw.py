"""Draws the pictures of the docs with regrow itself: `python docs/pictures/draw.py [FOLDER]`, a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.metrics.exploration import forecast
from regrow.tickets import Ticket
from regrow.tickets.plan import capture_steps, edst, learning_rate, total_steps
from regrow.tickets.superpose import CIA, superpose

EMPTY, KEPT, DROPPED, GROWN = "#eceff1", "#37474f", "#e4572e", "#2a9d8f"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "regrow",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def topology() -> Figure:
    """A layer before an update, what RigL drops and grows, and the layer after."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    setup = {"density": 0.25, "total_steps": 100, "every": 10, "topology": "uniform", "include": ["0.weight"]}
    sparsifier = regrow.sparsify(model, optimizer, method="rigl", **setup)
    x, y = torch.randn(64, 20), torch.randint(3, (64,))
    seen = []
    for _ in range(10):
        seen.append(sparsifier.topology)
        _step(model, optimizer, x, y)
    before, after = seen[-1], sparsifier.topology
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 1.9))
    for axis, title, layers in (
        (axes[0], f"before: {before.nnz}", [(before, 1)]),
        (
            axes[1],
            f"{(before - after).nnz} dropped, {(after - before).nnz} grown",
            [(before & after, 1), (before - after, 2), (after - before, 3)],
        ),
        (axes[2], f"after: {after.nnz}", [(after, 1)]),
    ):
        _grid(axis, sum(which["0.weight"].int() * shade for which, shade in layers), title)
    return figure


def exploration() -> Figure:
    """R_s of four methods on the digits, and the forecast for random growth."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    figure, axis = plt.subplots(figsize=(5.2, 2.6))
    steps, every = 600, 20
    for method, colour in (("set-itop", GROWN), ("rigl-itop", DROPPED), ("static", KEPT)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        interval = None if method == "static" else every
        sparsifier = regrow.sparsify(model, optimizer, method=method, density=0.05, total_steps=steps, every=interval)
        shapes, densities = sparsifier.topology.shapes, sparsifier.topology.densities()
        rates = [sparsifier.exploration_rate]
        for step in range(steps):
            at = torch.arange(64) + 64 * (step % 21)
            _step(model, optimizer, x[at], y[at])
            rates.append(sparsifier.exploration_rate)
        axis.plot(rates, color=colour, label=method)
        if method == "set-itop":
            made = sparsifier.method
            course = forecast(shapes, densities, made.fraction, made.every, steps)
            axis.plot([r.step for r in course], [r.overall for r in course], ":", color="black", label="forecast")
    axis.set(xlabel="step", ylabel="$R_s$, share ever active", ylim=(0, 1))
    axis.legend(frameon=False)
    return figure


def phases() -> Figure:
    """EDST: the learning rate, where it escapes, where it leaves a ticket."""
    plan = edst(explore_steps=150, refine_steps=100, tickets=3)
    rate, total = learning_rate(plan), total_steps(plan)
    figure, axis = plt.subplots(figsize=(6.4, 2.2))
    axis.semilogy(range(total), [0.1 * rate(step) for step in range(total)], color=KEPT, drawstyle="steps-post")
    for number, end in enumerate(capture_steps(plan)):
        axis.plot(end, 0.001, "o", color=GROWN)
        axis.annotate(f"ticket {number}", (end, 0.001), (-4, 8), textcoords="offset points", ha="right", color=GROWN)
        if number < 2:
            axis.axvline(end, color=DROPPED, linestyle=":")
            axis.annotate("escape", (end, 0.07), (3, 0), textcoords="offset points", color=DROPPED)
    axis.annotate("explore", (60, 0.06), color=KEPT)
    axis.set(xlabel="epoch", ylabel="learning rate", ylim=(5e-4, 0.2))
    return figure


def superposition() -> Figure:
    """Three tickets, their mean over the union, and the mean pruned back."""
    draw = torch.Generator().manual_seed(3)
    base = torch.randn(8, 8, generator=draw)
    tickets = []
    for _ in range(3):
        weight = (base + 0.7 * torch.randn(8, 8, generator=draw)) * (torch.rand(8, 8, generator=draw) < 0.75)
        keep = weight.abs().flatten().topk(16).indices
        weight = torch.zeros(64).index_copy_(0, keep, weight.flatten()[keep]).view(8, 8)
        layer = nn.Linear(8, 8, bias=False)
        layer.load_state_dict({"weight": weight})
        tickets.append(Ticket.of(layer, regrow.Topology.of(layer.state_dict())))
    union, pruned = superpose(tickets, CIA(prune=None)), superpose(tickets, CIA())
    figure, axes = plt.subplots(1, 5, figsize=(7.2, 1.75))
    titles = [f"ticket {i}: 16" for i in range(3)] + [f"mean: {union.topology.nnz}", "pruned back: 16"]
    for axis, title, ticket in zip(axes, titles, [*tickets, union, pruned], strict=True):
        weight = ticket.state_dict()["weight"]
        shown = np.where(weight == 0, np.nan, weight)
        colours = mpl.colormaps["RdBu"].with_extremes(bad=EMPTY)
        _cells(axis, shown, title, cmap=colours, vmin=-2.5, vmax=2.5)
    return figure


def lanes() -> Figure:
    """What the sparse kernels do: for each weight that exists one multiply-add over the lanes of a batch."""
    draw = np.random.default_rng(5)
    weight = np.where(draw.random((6, 8)) < 0.2, 1, 0)
    weight[2] = [0, 1, 0, 0, 0, 1, 0, 0]
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.0), width_ratios=[8, 14, 14])
    mine = weight.copy()
    mine[2] *= 3
    _grid(axes[0], torch.from_numpy(mine), "weights")
    rows, out = np.zeros((8, 14), int), np.zeros((6, 14), int)
    rows[[1, 5]], out[2] = 3, 3
    _grid(axes[1], torch.from_numpy(rows), "activations")
    _grid(axes[2], torch.from_numpy(out), "outputs")
    for axis, text in ((axes[1], "lanes (batch)"), (axes[2], "lanes (batch)"), (axes[0], "inputs")):
        axis.set_xlabel(text)
    return figure


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()


def _grid(axis: Axes, shades: Tensor, title: str) -> None:
    """0 empty, 1 there, 2 dropped, 3 grown."""
    _cells(axis, shades.numpy(), title, cmap=ListedColormap([EMPTY, KEPT, DROPPED, GROWN]), vmin=0, vmax=3)


def _cells(axis: Axes, values: np.ndarray, title: str, **how: object) -> None:
    axis.imshow(values, interpolation="none", **how)
    rows, columns = values.shape
    axis.vlines([at + 0.5 for at in range(columns - 1)], -0.5, rows - 0.5, color="white", linewidth=1)
    axis.hlines([at + 0.5 for at in range(rows - 1)], -0.5, columns - 0.5, color="white", linewidth=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)
    axis.spines[:].set_visible(False)


PICTURES: dict[str, Callable[[], Figure]] = {
    "topology": topology,
    "exploration": exploration,
    "edst": phases,
    "superposition": superposition,
    "lanes": lanes,
}


def main(folder: Path, names: Sequence[str] = tuple(PICTURES)) -> None:
    torch.set_num_threads(1)
    with mpl.rc_context(STYLE):
        for name in names:
            figure = PICTURES[name]()
            figure.savefig(folder / f"{name}.svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
            plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
