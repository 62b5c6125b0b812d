"""Why is it not faster? What stays dense, and where the layout breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from regrow.core.errors import RegrowError
from regrow.execution import images, native
from regrow.execution.ops import is_lanes
from regrow.execution.parts import locate, survey
from regrow.execution.sparse_conv import SparseConv2d
from regrow.execution.sparse_layer import SparseLayer
from regrow.execution.sparse_sites import places_of
from regrow.lab.subject import Subject

BREAK_EVEN = 0.6
"""Density above which a dense linear layer is the quicker one; whole steps break even between .5 and .7."""


def refused(model: nn.Module) -> tuple[dict[str, str], int]:
    """The sites that the sparse backend cannot run, with what they are; and how many others there are."""
    sites = {part.name: verdict.reason for verdict in survey(model) for part in verdict.parts}
    found = {}
    for name, reason in sites.items():
        try:
            places_of(model, locate(model, [name]))
        except RegrowError:
            found[name] = reason.removeprefix("sparse: ")
    return found, len(sites) - len(found)


def reasons(subject: Subject, refusals: Mapping[str, str]) -> list[str]:
    """A line for each thing that keeps the model from its speed; `subject` is on the sparse backend if it can be."""
    assert subject.sparsifier is not None
    lines = []
    for what in dict.fromkeys(refusals.values()):
        names = [name for name, kind in refusals.items() if kind == what]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        lines.append(f"{', '.join(names[:3])}{more} dense: the sparse backend does not run a {what}")
    for verdict in subject.sparsifier.verdicts:
        if not verdict.parts and verdict.parameter.dim() > 1 and verdict.name not in refusals:
            lines.append(f"{verdict.name} stays {verdict.reason}")
    executed = subject.sparsifier.topology.densities() if subject.way.backend == "sparse" else {}
    for name, density in executed.items():
        if density == 1:
            lines.append(f"{name} runs dense: the distribution leaves it whole")
        elif density > BREAK_EVEN and len(subject.sparsifier.topology.shape(name)) == 2:
            lines.append(f"{name} has density {density:.2f}: above about {BREAK_EVEN} a dense product is quicker")
    if native.isa() == "reference":
        lines.append("the compiled kernels are missing: sparse layers run in plain torch")
    return lines + list(_breaks(subject))


def _breaks(subject: Subject) -> Iterator[str]:
    """Sparse layers, past the first, whose input must be transposed into lanes."""
    seen: list[tuple[str, bool]] = []  # leaf modules in the order they run: name, and is it a sparse layer given rows?

    def note(name: str) -> Any:
        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
            executed = isinstance(module, SparseLayer) and not module.whole
            seen.append((name, executed and x is not None and not _in_lanes(module, x)))

        return before

    with ExitStack() as stack, torch.no_grad(), _Copies() as copies:
        for name, module in subject.model.named_modules():
            if not any(module.children()):
                stack.callback(module.register_forward_pre_hook(note(name)).remove)
        subject.model(subject.x)
    sparse = {name for name, module in subject.model.named_modules() if isinstance(module, SparseLayer)}
    begun = False
    for i, (name, rows) in enumerate(seen):
        if rows and begun:
            yield f"{name} gets its input in rows and transposes it: after {seen[i - 1][0]}"
        begun = begun or name in sparse
    if begun and copies.made:
        yield f"torch copies {copies.made} tensors of a forward pass, to have them in rows (attention, reshapes)"


def _in_lanes(layer: nn.Module, x: Tensor) -> bool:
    if isinstance(layer, SparseConv2d):
        return x.dim() == 4 and images.is_lanes(x)
    return is_lanes(x.reshape(-1, x.shape[-1]))


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the tensors copied for no other end than their layout."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.made += func is torch.ops.aten.clone.default
        return func(*args, **(kwargs or {}))
