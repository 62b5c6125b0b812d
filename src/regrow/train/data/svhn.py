"""SVHN in its official MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from regrow.core.errors import RegrowError
from regrow.train.data.base import Batch
from regrow.train.data.fetch import download
from regrow.train.data.tensors import Arrays

URL = "http://ufldl.stanford.edu/housenumbers"
MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}


def svhn(root: Path) -> Arrays:
    """73,257 / 26,032 house-number digits in colour, 32x32 (Netzer et al. 2011)."""
    train, test = (_split(root / "SVHN" / name) for name in MD5)
    return Arrays(train, test, 10)


def _split(path: Path) -> Batch:
    from scipy.io import loadmat  # type: ignore[import-untyped]

    if not path.is_file():
        download(f"{URL}/{path.name}", MD5[path.name], path)
    try:
        content = loadmat(path, variable_names=["X", "y"])
        images, labels = content["X"], content["y"].reshape(-1)
    except Exception as error:  # a damaged file may raise anything
        raise RegrowError(f"{path} is not a readable SVHN file ({error}); delete it and fetch it again") from error
    if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
        raise RegrowError(
            f"{path} is no SVHN file: X is {images.dtype} {images.shape} with {len(labels)} labels, and should be "
            "uint8 [32, 32, 3, N]; fetch it again"
        )
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))
    return x, torch.from_numpy(labels.astype(np.int64)) % 10  # the files call the digit 0 ten
