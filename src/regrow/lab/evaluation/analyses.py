"""What networks are like inside: units, gradients, curvature and landscape, as records of plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.lab.evaluation.member import device
from regrow.lab.evaluation.subject import Subject
from regrow.metrics.activity import activities
from regrow.metrics.curvature import top_eigenvalue, trace
from regrow.metrics.landscape import direction, line, plane
from regrow.metrics.surface import Surface
from regrow.train.data import Data
from regrow.train.record import Record

SAMPLES = 1000
LINE, PLANE = 21, 11
"""Points from -1 to 1, in lengths of the filters."""


def analysed(subject: Subject, tell: Callable[[str], None]) -> Record:
    """Of every member and every other that is a whole network, by its name.

    Raises:
        RegrowError: none is.
    """
    networks = [(m.name, m.model, m.topology) for m in (*subject.members, *subject.others) if m.model is not None]
    if not networks:
        raise RegrowError(
            f"{subject.name}: analyses look into whole networks, not passes or networks in one; leave it out"
        )
    batch = _batch(subject.data)
    records = {}
    for name, model, topology in networks:
        tell(f"looking into {name}")
        records[name] = analysis(model, topology, batch)
    return records


def analysis(model: nn.Module, topology: Topology | None, batch: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Of one network around the weights it has, those outside the topology left at zero, in eval mode."""
    surface = Surface(model, batch, topology)
    along, across = direction(surface, 0), direction(surface, 1)
    ends, sides = (torch.linspace(-1, 1, points).tolist() for points in (LINE, PLANE))
    mean, error = trace(surface)
    return {
        "samples": len(batch[1]),
        "loss": float(surface.loss(surface.theta)),
        "activities": [asdict(row) for row in activities(model, [batch[0]])],
        "gradients": {name: float(g.norm()) for name, g in surface.split(surface.gradient).items()},
        "curvature": {"top_eigenvalue": top_eigenvalue(surface), "trace": mean, "trace_error": error},
        "landscape": {
            "line_at": ends,
            "line": line(surface, along, ends).tolist(),
            "plane_at": sides,
            "plane": plane(surface, along, across, sides).tolist(),
        },
    }


def _batch(data: Data) -> tuple[Tensor, Tensor]:
    """The first training samples of the first epoch, the same for every network."""
    x, y = next(iter(data.train(min(SAMPLES, data.steps(1)), seed=0, epoch=0)))
    return x.to(device()), y.to(device())
