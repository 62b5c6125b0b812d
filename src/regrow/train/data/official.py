"""Corrupted test images in their official files: CIFAR-10-C, CIFAR-100-C and ImageNet-C (arXiv:1903.12261)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from regrow.core.errors import RegrowError
from regrow.train.data.base import Batch
from regrow.train.data.folder import FolderData, listing

CIFAR = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}
PER_SEVERITY = 10_000


def cifar_c(root: Path, name: str, kind: str, severity: int) -> Batch | None:
    """Images [10000, 3, 32, 32] uint8 and labels of one severity, 1 to 5, from `<kind>.npy`; None where it is not.

    Raises:
        RegrowError: the files are not the official ones.
    """
    folder = root / CIFAR.get(name, "")
    images, labels = folder / f"{kind}.npy", folder / "labels.npy"
    if name not in CIFAR or not images.is_file():
        return None
    rows = slice((severity - 1) * PER_SEVERITY, severity * PER_SEVERITY)
    x, y = (_rows(path, shape, rows) for path, shape in ((images, (32, 32, 3)), (labels, ())))
    return x.permute(0, 3, 1, 2).contiguous(), y.long()


def imagenet_c(root: Path, kind: str, severity: int, classes: int, size: int) -> Iterator[Batch] | None:
    """Batches as the network takes them, from `ImageNet-C/<kind>/<severity>/<class>/`, also below `noise/`, `blur/`,
    ...; None where there is no such folder.

    Raises:
        RegrowError: it has another number of classes.
    """
    found = next((p for p in sorted((root / "ImageNet-C").glob(f"**/{kind}/{severity}")) if p.is_dir()), None)
    if found is None:
        return None
    names = sorted(entry.name for entry in found.iterdir() if entry.is_dir())
    if len(names) != classes:
        raise RegrowError(f"{found} holds {len(names)} classes, and the model tells {classes} apart")
    return FolderData(kind, classes, size, {"test": listing(found, names)}, augment=False).evaluate("test", 100)


def _rows(path: Path, shape: tuple[int, ...], rows: slice) -> torch.Tensor:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RegrowError(f"{path} is not a readable .npy file ({error}); fetch the official one again") from error
    if array.dtype.kind not in "ui" or array.shape != (5 * PER_SEVERITY, *shape):
        raise RegrowError(
            f"{path} holds {array.dtype} {array.shape}; the official file is uint8 {(5 * PER_SEVERITY, *shape)}"
        )
    return torch.from_numpy(np.array(array[rows], np.uint8))
