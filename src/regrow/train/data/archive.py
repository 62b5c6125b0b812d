"""Any data set in one `.npz` with x_train, y_train, x_test, y_test."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regrow.core.errors import RegrowError, nearest
from regrow.train.data.base import Request
from regrow.train.data.tensors import Arrays, TensorData

KEYS = ("x_train", "y_train", "x_test", "y_test")


def npz(request: Request) -> TensorData:
    """Inputs [N, F], [N, H, W], [N, H, W, C] or [N, C, H, W], standardised per feature or channel; any labels.

    The sorted distinct training labels become 0, 1, ... . [N, H, W, C] is recognised by a last axis of 1 or 3.
    """
    path = Path(request.argument).expanduser()
    arrays = _read(path)
    names = np.unique(arrays["y_train"])
    train, test = (
        (_inputs(path, arrays[f"x_{split}"]), _labels(path, arrays[f"y_{split}"], names)) for split in ("train", "test")
    )
    for split, (x, y) in (("train", train), ("test", test)):
        if len(x) != len(y) or not len(y):
            raise RegrowError(f"{path} holds {len(x)} x_{split} and {len(y)} y_{split}; they must be equal and not 0")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise RegrowError(f"{path}: x_train and x_test differ in shape: {train[0].shape[1:]}, {test[0].shape[1:]}")
    return TensorData.of(request, Arrays(train, test, len(names)))


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise RegrowError(f"no data file {path}; `data: digits` needs none")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = list(archive.files)
            if missing := [key for key in KEYS if key not in found]:
                raise RegrowError(
                    f"{path} lacks {missing[0]!r}{nearest(missing[0], found)}. It needs {', '.join(KEYS)}"
                )
            return {key: archive[key] for key in KEYS}
    except RegrowError:
        raise
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise RegrowError(f"{path} is not an npz of plain arrays ({error}); write it with numpy.savez") from error


def _inputs(path: Path, x: NDArray[np.generic]) -> Tensor:
    if x.dtype.kind not in "biuf" or not 2 <= x.ndim <= 4:
        raise RegrowError(f"{path}: inputs must be numbers [N, F], [N, H, W] or [N, C, H, W], not {x.dtype} {x.shape}")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x, np.uint8 if x.dtype == np.uint8 else np.float32))


def _labels(path: Path, y: NDArray[np.generic], names: NDArray[np.generic]) -> Tensor:
    y = y.reshape(-1)
    if unknown := sorted(set(y.tolist()) - set(names.tolist())):
        raise RegrowError(f"{path}: label {unknown[0]!r} of y_test never occurs in y_train")
    return torch.from_numpy(np.searchsorted(names, y)).long()
