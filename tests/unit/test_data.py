"""The data contract: fixed order, resumable anywhere, the same through any number of ranks, honest validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train.data import DATASETS, Data, load
from regrow.train.data.augment import CropFlip
from regrow.train.data.base import Batch, Request, hold_out
from regrow.train.data.tensors import Arrays, TensorData


def images(count: int = 60, augmentation: CropFlip | None = CropFlip(), validation: float = 0.2) -> TensorData:  # noqa: B008
    x = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(count) % 3
    request = Request("images", "", Path(), validation, augment=True)
    return TensorData.of(request, Arrays((x, y), (x[:20], y[:20]), 3, augmentation=augmentation))


def same(left: list[Batch], right: list[Batch]) -> bool:
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


@pytest.fixture(params=["memory", "folder"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    if request.param == "memory":
        return images()
    write_folder(tmp_path, train=20, test=6)
    return load(f"folder:{tmp_path}", validation=0.2)


def write_folder(root: Path, **counts: int) -> None:
    from PIL import Image

    noise = np.random.default_rng(0)
    for split, count in counts.items():
        for name in ("ant", "bee", "cat"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = noise.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")


def test_training_batches_are_a_pure_function_of_seed_and_epoch(data: Data) -> None:
    once = list(data.train(8, seed=1, epoch=0))
    assert same(once, list(data.train(8, seed=1, epoch=0)))
    assert len(once) == data.steps(8) == 48 // 8
    assert not same(once, list(data.train(8, seed=2, epoch=0)))
    assert not same(once, list(data.train(8, seed=1, epoch=1)))


@pytest.mark.parametrize("start", [0, 1, 4, 6])
def test_training_resumes_from_any_step(data: Data, start: int) -> None:
    whole = list(data.train(8, seed=1, epoch=2))
    assert same(whole[start:], list(data.train(8, seed=1, epoch=2, start=start)))


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_see_what_one_rank_sees(data: Data, world: int) -> None:
    ranks = [list(data.train(8, seed=3, epoch=1, rank=rank, world=world)) for rank in range(world)]
    joined = [
        (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])) for parts in zip(*ranks, strict=True)
    ]
    assert same(joined, list(data.train(8, seed=3, epoch=1)))


def test_batches_are_float_images_and_long_labels(data: Data) -> None:
    x, y = next(iter(data.train(8, seed=0, epoch=0)))
    assert x.shape == (8, *data.shape)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert x.is_contiguous()
    assert data.classes == 3


def test_evaluation_is_never_augmented_and_covers_the_split(data: Data) -> None:
    for split in data.splits:
        large, small = list(data.evaluate(split)), list(data.evaluate(split, batch_size=5))
        assert torch.equal(large[0][0], torch.cat([x for x, _ in small]))
        assert torch.equal(large[0][1], torch.cat([y for _, y in small]))
    assert data.splits == ("val", "test")


def test_evaluation_leaves_float_data_as_it_was() -> None:
    x, y = torch.randn(20, 5), torch.arange(20) % 2
    table = TensorData.of(Request("table", "", Path(), 0.0, True), Arrays((x, y), (x, y), 2))
    assert same(list(table.evaluate("test")), list(table.evaluate("test")))


def test_an_epoch_visits_each_sample_once() -> None:
    data = images(augmentation=None, validation=0.0)
    seen = torch.cat([x for x, _ in data.train(10, seed=0, epoch=0)])
    [(whole, _)] = data.evaluate("test", 60)
    assert len(seen) == 60
    assert all(any(torch.equal(x, s) for s in seen) for x in whole)


def test_without_augmentation_training_images_are_the_stored_ones() -> None:
    digits = load("digits", augment=False)
    cropped = images(augmentation=CropFlip())
    assert not torch.equal(*(next(iter(d.train(48, 0, 0)))[0] for d in (cropped, images(augmentation=None))))
    x, _ = next(iter(digits.train(1, 0, 0)))
    assert x.shape == (1, 1, 8, 8)


def test_digits_split_is_fixed_stratified_and_standardised() -> None:
    digits = load("digits", validation=0.0)
    assert isinstance(digits, TensorData)
    (x, y), (_, held) = digits.parts["train"], digits.parts["test"]
    assert (len(y), len(held), digits.shape, digits.classes) == (1437, 360, (1, 8, 8), 10)
    assert x.dtype == torch.uint8
    share = held.bincount() / (y.bincount() + held.bincount())
    assert share.min() > 0.19
    assert share.max() < 0.21
    whole = torch.cat([batch for batch, _ in digits.train(479, 0, 0)])
    assert whole.mean().abs() < 1e-4
    assert (whole.std() - 1).abs() < 1e-3


def test_validation_is_stratified_and_does_not_depend_on_seed_or_augmentation() -> None:
    plain, augmented = load("digits", validation=0.1, augment=False), load("digits", validation=0.1)
    assert same(list(plain.evaluate("val")), list(augmented.evaluate("val")))
    [(_, y)] = plain.evaluate("val")
    assert len(y) == 144
    assert set(y.bincount().tolist()) <= {13, 14, 15}


@pytest.mark.parametrize("count", [0, 1, 7, 30])
def test_hold_out_is_exact_and_by_share(count: int) -> None:
    labels = torch.tensor([0] * 40 + [1] * 15 + [3] * 5)
    kept, held = hold_out(labels, count)
    assert len(held) == count
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(60))
    expected = torch.tensor([40.0, 15.0, 0.0, 5.0]) * count / 60
    assert (labels[held].bincount(minlength=4) - expected).abs().max() < 1


@pytest.mark.parametrize("border", ["zero", "reflect"])
def test_crop_flip_is_padding_then_cropping_then_flipping(border: str) -> None:
    x = torch.randint(1, 256, (32, 3, 9, 7), dtype=torch.uint8)
    draws = torch.rand(32, 3)
    mode = "constant" if border == "zero" else "reflect"
    padded = torch.nn.functional.pad(x.float(), (4, 4, 4, 4), mode=mode)

    def by_hand(image: Tensor, draw: Tensor) -> Tensor:
        top, left = (int(u * 9) for u in draw[:2])
        crop = image[:, top : top + 9, left : left + 7]
        return crop.flip(-1) if draw[2] < 0.5 else crop

    expected = torch.stack([by_hand(image, draw) for image, draw in zip(padded, draws, strict=True)])
    out = CropFlip(4, "zero" if border == "zero" else "reflect")(x, draws)
    assert out.dtype == torch.uint8
    assert torch.equal(out.float(), expected)


def test_synthetic_has_the_asked_shape_and_classes() -> None:
    data = load("synthetic:3x16x16x20")
    assert (data.shape, data.classes) == ((3, 16, 16), 20)
    assert data.steps(128) == 3
    table = load("synthetic:20x5", validation=0.0)
    assert (table.shape, table.classes, table.steps(128)) == ((20,), 5, 4)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("digits:3", "write 'digits'"),
        ("synthetic:3x", "synthetic:3x32x32x10"),
        ("synthetic:axb", "synthetic:3x32x32x10"),
        ("folder:nowhere", "holds no class folders"),
        ("nowhere.npz", "no data file nowhere.npz"),
    ],
)
def test_a_bad_name_is_one_clear_error(name: str, words: str) -> None:
    with pytest.raises(RegrowError, match=words):
        load(name)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(RegrowError, match=r"validation = 1\.5"):
        load("digits", validation=1.5)
    data = load("synthetic:4x2", validation=0.0)
    with pytest.raises(RegrowError, match="batch size 1000 does not fit 512"):
        data.steps(1000)
    with pytest.raises(RegrowError, match="does not divide among 3"):
        next(iter(data.train(64, 0, 0, rank=0, world=3)))
    with pytest.raises(RegrowError, match="validation > 0"):
        next(iter(data.evaluate("val")))
    with pytest.raises(RegrowError, match="no split 'train'"):
        next(iter(data.evaluate("train")))


def test_table_of_contents() -> None:
    names = "cifar10 cifar100 digits fashion_mnist folder mnist not_mnist npz svhn synthetic"
    assert sorted(DATASETS) == names.split()
