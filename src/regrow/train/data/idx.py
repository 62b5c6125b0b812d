"""MNIST, Fashion-MNIST and notMNIST in idx files, gzipped or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train.data.base import Batch
from regrow.train.data.fetch import download
from regrow.train.data.tensors import Arrays

MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"  # the host torchvision uses: the author's own refuses downloads
MNIST_MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FASHION_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


def mnist(root: Path) -> Arrays:
    """60,000 / 10,000 digits, 28x28 (LeCun, Cortes, Burges 1998)."""
    return _arrays(root / "MNIST" / "raw", MNIST, MNIST_MD5, mean=0.1307, std=0.3081)


def fashion_mnist(root: Path) -> Arrays:
    """60,000 / 10,000 articles of clothing, 28x28 (Xiao et al. 2017, arXiv 1708.07747)."""
    return _arrays(root / "FashionMNIST" / "raw", FASHION, FASHION_MD5, mean=0.2860, std=0.3530)


def not_mnist(root: Path) -> Arrays:
    """10,000 letters A to J in many fonts, 28x28, for telling apart from the two above (Bulatov 2011)."""
    folder = root / "notMNIST" / "raw"
    if not _present(folder / "t10k-images-idx3-ubyte"):
        raise RegrowError(
            f"{folder} holds no t10k-images-idx3-ubyte. The author publishes PNG files: put their idx form, "
            "github.com/davidflanagan/notMNIST-to-MNIST, there (the root is set by $REGROW_DATA)"
        )
    return Arrays(None, _split(folder, "t10k"), 10)


def _arrays(folder: Path, url: str, md5: dict[str, str], mean: float, std: float) -> Arrays:
    for name, checksum in md5.items():
        if not _present(folder / name):
            download(f"{url}/{name}.gz", checksum, folder / f"{name}.gz")
    return Arrays(_split(folder, "train"), _split(folder, "t10k"), 10, (255 * mean,), (255 * std,))


def _present(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)


def _split(folder: Path, stem: str) -> Batch:
    images, labels = read(folder / f"{stem}-images-idx3-ubyte", 3), read(folder / f"{stem}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise RegrowError(f"{folder} holds {len(images)} {stem} images but {len(labels)} labels; fetch both again")
    return images[:, None], labels.long()


def read(path: Path, dims: int) -> Tensor:
    """The unsigned bytes of the idx file `path`, or of `path`.gz.

    Raises:
        RegrowError: not an idx file of bytes with `dims` dimensions, or cut short.
    """
    found = _present(path) or path
    try:
        content = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise RegrowError(f"{found} cannot be read ({error}); delete it and fetch it again") from error
    header = 4 + 4 * dims
    if content[:4] != bytes((0, 0, 8, dims)) or len(content) < header:
        raise RegrowError(f"{found} is not an idx file of bytes in {dims} dimensions; delete it and fetch it again")
    shape = struct.unpack(f">{dims}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise RegrowError(
            f"{found} says it holds {math.prod(shape)} bytes and holds {len(content) - header}; "
            "delete it and fetch it again"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].view(shape)
