"""Official formats, written tiny into a temporary folder; damaged and hostile files are refused in one clear error."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.core.errors import RegrowError
from regrow.train.data import load
from regrow.train.data.cifar import unpickle
from regrow.train.data.folder import ATTEMPTS, random_view


def write_idx(root: Path, name: str, zipped: bool) -> None:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for stem, count in (("train", 40), ("t10k", 20)):
        pixels = np.arange(count * 784).reshape(count, 28, 28).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            path, content = folder / f"{stem}-{kind}-ubyte", header + array.tobytes()
            if zipped:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


def cifar_batch(count: int, key: str, classes: int) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"data": pixels, key: [i % classes for i in range(count)], "filenames": ["x.png"] * count}


def write_cifar10(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(cifar_batch(20, "labels", 10), protocol=2))
    return folder


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_are_read_zipped_or_not(tmp_path: Path, name: str, folder: str, zipped: bool) -> None:
    write_idx(tmp_path, folder, zipped)
    data = load(name, root=tmp_path)
    assert (data.shape, data.classes, data.steps(9)) == ((1, 28, 28), 10, 4)
    [(x, y)] = data.evaluate("test")
    assert torch.equal(y, torch.arange(20) % 10)
    assert x[1].flatten().argmin() == 256 * 4 - 784  # the first byte 0 of the second image


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[:-5], "says it holds 31360 bytes and holds 31355"),
        (lambda content: b"\0\0\x09\x03" + content[4:], "is not an idx file"),
        (lambda content: content[:9], "is not an idx file"),
        (lambda content: b"", "is not an idx file"),
    ],
)
def test_a_corrupt_idx_file_is_named(tmp_path: Path, spoil: Any, words: str) -> None:
    write_idx(tmp_path, "MNIST", zipped=False)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(RegrowError, match=words) as caught:
        load("mnist", root=tmp_path)
    assert str(path) in str(caught.value)


def test_a_cut_gzip_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path, "MNIST", zipped=True)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(RegrowError, match=r"t10k-labels-idx1-ubyte\.gz cannot be read"):
        load("mnist", root=tmp_path)


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, "MNIST", zipped=False)
    raw = tmp_path / "MNIST" / "raw"
    (raw / "train-labels-idx1-ubyte").write_bytes((raw / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(RegrowError, match="40 train images but 20 labels"):
        load("mnist", root=tmp_path)


def test_cifar10_is_read_and_augmented(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    data = load("cifar10", root=tmp_path)
    assert (data.shape, data.classes, data.steps(30)) == ((3, 32, 32), 10, 3)
    [(x, y)] = data.evaluate("test")
    stored = torch.from_numpy(cifar_batch(20, "labels", 10)["data"]).view(20, 3, 32, 32) / 255
    mean, std = torch.tensor((0.4914, 0.4822, 0.4465)), torch.tensor((0.2470, 0.2435, 0.2616))
    torch.testing.assert_close(x, (stored - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert torch.equal(y, torch.arange(20) % 10)
    plain = load("cifar10", root=tmp_path, augment=False)
    assert not torch.equal(next(iter(data.train(30, 0, 0)))[0], next(iter(plain.train(30, 0, 0)))[0])


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test"):
        batch = cifar_batch(200, "fine_labels", 100) | {"coarse_labels": [0] * 200}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    data = load("cifar100", root=tmp_path)
    [(_, y)] = data.evaluate("test")
    assert data.classes == 100
    assert torch.equal(y, torch.arange(200) % 100)


def test_python_2_pickles_are_read(tmp_path: Path) -> None:
    """The bytes of an official file: Python-2 short strings, raw array bytes, numpy's old module names."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x04\x86cnumpy\ndtype\n"
        b"U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\xff\x80\x00tb"
    )
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x07eu.")
    content = unpickle(path)
    assert content["labels"] == [7]
    assert content["data"].tolist() == [[1, 255, 128, 0]]


class Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_an_evil_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    batch = cifar_batch(20, "labels", 10) | {"extra": Evil(tmp_path / "witness")}
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_3").write_bytes(pickle.dumps(batch, protocol=protocol))
    with pytest.raises(RegrowError, match=r"mkdir.*refused"):
        load("cifar10", root=tmp_path)
    assert not (tmp_path / "witness").exists()


@pytest.mark.parametrize(
    "attribute", [b"cbuiltins\neval\n", b"cos\nsystem\n", b"cnumpy\nload\n", b"c_codecs\nlookup\n"]
)
def test_no_other_name_is_looked_up(tmp_path: Path, attribute: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(attribute + b"(Vtext\ntR.")
    with pytest.raises(RegrowError, match="refused"):
        unpickle(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps([1, 2]), pickle.dumps({"data": 3, "labels": [1]})])
def test_a_damaged_cifar_file_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write_cifar10(tmp_path)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(RegrowError, match="test_batch is not a"):
        load("cifar10", root=tmp_path)


def write_npz(path: Path, **changes: Any) -> str:
    x = np.arange(240, dtype=np.float32).reshape(40, 6)
    y = np.array(["no", "yes"] * 20)
    arrays = {"x_train": x, "y_train": y, "x_test": x[:10], "y_test": y[:10]} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def test_npz_takes_any_labels_and_standardises_features(tmp_path: Path) -> None:
    data = load(write_npz(tmp_path / "a.npz"), validation=0.0)
    assert (data.shape, data.classes) == ((6,), 2)
    [(x, y)] = data.train(40, 0, 0)
    assert x.mean(0).abs().max() < 1e-5
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(6))
    assert y.sum() == 20


@pytest.mark.parametrize(
    ("stored", "shape"),
    [((8, 9), (1, 8, 9)), ((8, 9, 3), (3, 8, 9)), ((3, 8, 9), (3, 8, 9)), ((1, 8, 3), (1, 8, 3))],
)
def test_npz_images_become_channels_first(tmp_path: Path, stored: tuple[int, ...], shape: tuple[int, ...]) -> None:
    x = np.zeros((40, *stored), np.uint8)
    data = load(write_npz(tmp_path / "a.npz", x_train=x, x_test=x[:10]))
    assert data.shape == shape
    assert next(iter(data.train(8, 0, 0)))[0].isfinite().all()  # a constant channel divides by 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None, "y_tset": np.zeros(10)}, "lacks 'y_test'; did you mean 'y_tset'"),
        ({"y_test": np.array(["maybe"] * 10)}, "label 'maybe' of y_test never occurs"),
        ({"x_test": np.zeros((10, 7))}, "differ in shape"),
        ({"x_test": np.zeros((9, 6))}, "9 x_test and 10 y_test"),
        ({"x_train": np.array([["a"]] * 40)}, "inputs must be numbers"),
        ({"x_train": np.array([[None]] * 40)}, "not an npz of plain arrays"),
    ],
)
def test_a_bad_npz_is_one_clear_error(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RegrowError, match=words):
        load(write_npz(tmp_path / "a.npz", **changes))


def test_an_npz_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(RegrowError, match="is not an npz"):
        load(str(tmp_path / "a.npz"))


def save(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_tiny_imagenet_layout(tmp_path: Path) -> None:
    for name, colour in (("n01", (255, 0, 0)), ("n02", (0, 0, 255))):
        for i in range(6):
            save(tmp_path / "train" / name / "images" / f"{name}_{i}.JPEG", (64, 64), colour)
    save(tmp_path / "val" / "images" / "val_0.JPEG", (64, 64), (0, 0, 255))
    save(tmp_path / "val" / "images" / "val_1.JPEG", (64, 64), (255, 0, 0))
    save(tmp_path / "test" / "images" / "test_0.JPEG", (64, 64), (0, 0, 0))  # unlabelled
    rows = "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(rows)
    data = load(f"folder:{tmp_path}", validation=0.34)
    assert (data.shape, data.classes, data.splits, data.steps(4)) == ((3, 64, 64), 2, ("val", "test"), 2)
    [(x, y)] = data.evaluate("test")
    assert y.tolist() == [1, 0]
    assert (x[:, 0].mean((1, 2)) > x[:, 2].mean((1, 2))).tolist() == [False, True]


def test_imagenet_layout_with_its_own_validation(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        for name in ("n01", "n02"):
            for i in range(count):
                save(tmp_path / split / name / f"{i}.jpg", (50, 40), (9, 9, 9))
    data = load(f"folder:{tmp_path}:32")
    assert (data.shape, data.steps(8)) == ((3, 32, 32), 1)
    assert [len(y) for split in data.splits for _, y in data.evaluate(split)] == [4, 2]
    assert load(f"folder:{tmp_path}").shape == (3, 224, 224)


def test_folders_without_a_test_split_or_with_a_broken_image(tmp_path: Path) -> None:
    save(tmp_path / "train" / "n01" / "0.png", (32, 32), (9, 9, 9))
    with pytest.raises(RegrowError, match="val/ or test/; found train"):
        load(f"folder:{tmp_path}")
    broken = tmp_path / "val" / "n01" / "0.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no image")
    with pytest.raises(RegrowError, match=r"0\.png is not a readable image"):
        next(iter(load(f"folder:{tmp_path}", validation=0.0).evaluate("test")))


def test_random_view_crops_within_the_image_and_flips() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 64, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))
    draws = torch.rand(40, 2 * ATTEMPTS + 3)
    views = np.stack([np.asarray(random_view(image, 32, draw))[0, :, 0].astype(int) for draw in draws])
    rising = views[:, -1] > views[:, 0]
    assert np.array_equal(rising, (draws[:, -1] >= 0.5).numpy())
    assert np.ptp(views, axis=1).min() < 128 < np.ptp(views, axis=1).max()
