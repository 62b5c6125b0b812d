"""CIFAR-10 and CIFAR-100 in their official Python pickles, read without running them."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regrow.core.errors import RegrowError
from regrow.train.data.augment import CropFlip
from regrow.train.data.base import Batch
from regrow.train.data.fetch import atomic, download
from regrow.train.data.tensors import Arrays

URL = "https://www.cs.toronto.edu/~kriz"


def cifar10(root: Path) -> Arrays:
    """50,000 / 10,000 colour images, 32x32, 10 classes (Krizhevsky 2009); reflected border as in ITOP's code."""
    folder = root / "cifar-10-batches-py"
    train, test = [f"data_batch_{i}" for i in range(1, 6)], ["test_batch"]
    _ensure(folder, [*train, *test], f"{URL}/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
    return Arrays(
        train=_split(folder, train, "labels"),
        test=_split(folder, test, "labels"),
        classes=10,
        mean=_bytes(0.4914, 0.4822, 0.4465),
        std=_bytes(0.2470, 0.2435, 0.2616),
        augmentation=CropFlip(border="reflect"),
    )


def cifar100(root: Path) -> Arrays:
    """50,000 / 10,000 colour images, 32x32, 100 classes (Krizhevsky 2009); black border as in ITOP's code."""
    folder = root / "cifar-100-python"
    _ensure(folder, ["train", "test"], f"{URL}/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85")
    return Arrays(
        train=_split(folder, ["train"], "fine_labels"),
        test=_split(folder, ["test"], "fine_labels"),
        classes=100,
        mean=_bytes(0.5071, 0.4865, 0.4409),
        std=_bytes(0.2673, 0.2564, 0.2762),
        augmentation=CropFlip(border="zero"),
    )


def _bytes(*unit: float) -> tuple[float, ...]:
    return tuple(255 * value for value in unit)


def _ensure(folder: Path, names: Sequence[str], url: str, md5: str) -> None:
    """Download and unpack unless every file is there. Only the named members of the archive are written."""
    if all((folder / name).is_file() for name in names):
        return
    archive = folder / url.rpartition("/")[2]
    download(url, md5, archive)
    with tarfile.open(archive) as tar:
        for name in names:
            member = tar.extractfile(f"{folder.name}/{name}")
            assert member is not None, f"the published archive holds {name} as a plain file"
            with atomic(folder / name) as file:
                file.write(member.read())
    archive.unlink()


def _split(folder: Path, names: Sequence[str], key: str) -> Batch:
    parts = [_batch(folder / name, key) for name in names]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def _batch(path: Path, key: str) -> Batch:
    content = unpickle(path)
    data, labels = content.get("data"), content.get(key)
    if not isinstance(data, np.ndarray) or not isinstance(labels, list) or data.shape != (len(labels), 3072):
        raise RegrowError(f"{path} is not a CIFAR batch: it needs `data` [N, 3072] and `{key}` [N]; fetch it again")
    return torch.from_numpy(np.array(data, np.uint8)).view(-1, 3, 32, 32), torch.tensor(labels)


def unpickle(path: Path) -> dict[str, Any]:
    """The dict of plain values and numpy arrays in `path`.

    Raises:
        RegrowError: it is damaged, or asks for anything beyond plain values and numpy arrays.
    """
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except RegrowError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise RegrowError(f"{path} is not a readable CIFAR pickle ({error}); delete it and fetch it again") from error
    if not isinstance(content, dict):
        raise RegrowError(f"{path} is not a CIFAR batch but a {type(content).__name__}; fetch it again")
    return content


_reconstruct: Any = np.empty(0).__reduce__()[0]


class _ArraysOnly(pickle.Unpickler):
    """Looks names up in a table of four and imports nothing. Pickles can otherwise run any code (docs of `pickle`)."""

    allowed: dict[tuple[str, str], Any] = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: str.encode(text, "latin1"),  # bytes, as Python 3 writes them
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise RegrowError(f"the file asks to run {module}.{name}: refused, it is not a CIFAR batch")
        return self.allowed[module, name]
