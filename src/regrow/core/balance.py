"""A batch in which every class is as frequent as the others."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from regrow.core.errors import RegrowError


def balanced(batches: Iterable[tuple[Tensor, Tensor]], classes: int, per_class: int = 10) -> tuple[Tensor, Tensor]:
    """The first `per_class` samples of each of the classes 0..classes-1, in the order they come.

    GraSP scores ten of each (Wang et al. 2020, arXiv:2002.07376).

    Raises:
        RegrowError: the batches end before every class has its share.
    """
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    missing = torch.full((classes,), per_class)
    for x, y in batches:
        rows = torch.cat([(y == c).nonzero().flatten()[: int(missing[c])] for c in range(classes)]).sort().values
        inputs.append(x[rows])
        labels.append(y[rows])
        missing -= y[rows].cpu().bincount(minlength=classes)
        if not missing.any():
            return torch.cat(inputs), torch.cat(labels)
    short = [f"{per_class - int(missing[c])} of class {c}" for c in range(classes) if missing[c]]
    raise RegrowError(
        f"a balanced batch needs {per_class} samples of each of {classes} classes, but the data hold only "
        f"{', '.join(short[:5])}; ask for fewer per class, or check the number of classes"
    )
