"""Data sets: `load("cifar10")` reads official files under $REGROW_DATA, `load("digits")` needs none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from regrow.core.errors import RegrowError, choose
from regrow.train.data.archive import npz
from regrow.train.data.base import Batch, Data, Request
from regrow.train.data.cifar import cifar10, cifar100
from regrow.train.data.embedded import digits, synthetic
from regrow.train.data.fetch import default_root
from regrow.train.data.folder import folder
from regrow.train.data.idx import fashion_mnist, mnist, not_mnist
from regrow.train.data.svhn import svhn
from regrow.train.data.tensors import Arrays, TensorData

__all__ = ["DATASETS", "Batch", "Data", "load"]


def named(read: Callable[[Path], Arrays]) -> Callable[[Request], Data]:
    """A data set found by its name alone, under the data root."""

    def data(request: Request) -> Data:
        if request.argument:
            raise RegrowError(
                f"data set {request.name!r}: nothing may follow the name; write {request.name.split(':')[0]!r}"
            )
        return TensorData.of(request, read(request.root))

    return data


DATASETS: dict[str, Callable[[Request], Data]] = {
    "digits": named(digits),
    "mnist": named(mnist),
    "fashion_mnist": named(fashion_mnist),
    "not_mnist": named(not_mnist),  # a test split only
    "cifar10": named(cifar10),
    "cifar100": named(cifar100),
    "svhn": named(svhn),
    "folder": folder,  # folder:PATH or folder:PATH:SIZE
    "npz": npz,  # npz:PATH, or just a path ending in .npz
    "synthetic": synthetic,  # synthetic:3x32x32x10
}


def load(name: str, *, validation: float = 0.1, augment: bool = True, root: Path | None = None) -> Data:
    """The data set `name`, with `validation` (a share in [0, 1)) of its training samples held out for validation.

    Raises:
        RegrowError: unknown name, missing or damaged files.
    """
    if not 0 <= validation < 1:
        raise RegrowError(f"validation = {validation}: give the share of the training samples to hold out, in [0, 1)")
    loader, argument = loader_of(name)
    return loader(Request(name, argument, root or default_root(), validation, augment))


def loader_of(name: str) -> tuple[Callable[[Request], Data], str]:
    """What reads the data set `name`, and what its name says besides.

    Raises:
        RegrowError: unknown name.
    """
    form, _, argument = (
        ("npz", "", name) if name.endswith(".npz") and not name.startswith("npz:") else name.partition(":")
    )
    return choose(DATASETS, form, "data set"), argument
