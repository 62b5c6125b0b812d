"""SVHN and notMNIST in the forms they are published in; inputs back to pixels and forth."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from regrow.core.errors import RegrowError
from regrow.train.data import load


def write_svhn(root: Path) -> Path:
    folder = root / "SVHN"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    labels = (np.arange(20, dtype=np.uint8) % 10 + 1)[:, None]
    for split in ("train", "test"):
        savemat(folder / f"{split}_32x32.mat", {"X": pixels, "y": labels})
    return folder


def test_svhn_is_read_and_its_ten_is_a_zero(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    data = load("svhn", root=tmp_path, validation=0.0)
    [(x, y)] = data.evaluate("test")
    assert (data.shape, data.classes) == ((3, 32, 32), 10)
    assert y.tolist() == [*range(1, 10), 0] * 2
    stored = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    assert data.pixels.of(x)[7, 2, 5, 6].item() == pytest.approx(stored[5, 6, 2, 7] / 255, abs=1e-5)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 40, None])
def test_a_damaged_svhn_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = write_svhn(tmp_path) / "test_32x32.mat"
    if content is None:
        savemat(path, {"X": np.zeros((2, 2)), "y": np.zeros((4, 1))})
    else:
        path.write_bytes(content)
    with pytest.raises(RegrowError, match=r"test_32x32\.mat is no"):
        load("svhn", root=tmp_path)


def test_not_mnist_has_a_test_split_only(tmp_path: Path) -> None:
    with pytest.raises(RegrowError, match=r"notMNIST.* holds no t10k-images.*REGROW_DATA"):
        load("not_mnist", root=tmp_path)
    raw = tmp_path / "notMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    (raw / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 20, 28, 28) + pixels.tobytes())
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 20) + bytes(range(10)) * 2)
    data = load("not_mnist", root=tmp_path)
    assert (data.shape, data.classes, data.splits) == ((1, 28, 28), 10, ("test",))
    [(x, _)] = data.evaluate("test")
    torch.testing.assert_close(data.pixels.of(x)[:, 0], torch.from_numpy(pixels) / 255)
    with pytest.raises(RegrowError, match="only a test split here"):
        data.steps(4)


@pytest.mark.parametrize("name", ["digits", "synthetic:3x8x8x4"])
def test_pixels_and_inputs_are_inverse_to_each_other(name: str) -> None:
    data = load(name, validation=0.1)
    x, _ = next(iter(data.evaluate("test")))
    u = data.pixels.of(x)
    assert (u.min(), u.max()) == (0, 1)
    torch.testing.assert_close(data.pixels.inputs(u), x, rtol=1e-5, atol=1e-5)


def test_pixels_of_a_constant_set_are_finite(tmp_path: Path) -> None:
    x, y = np.full((40, 6), 3.0, np.float32), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:10], y_test=y[:10])
    data = load(str(tmp_path / "a.npz"))
    [(inputs, _)] = data.evaluate("test")
    assert data.pixels.of(inputs).isfinite().all()
