"""Corruptions: against scipy and colorsys, by hand, the same for the same image, and the official files."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.train.data.corruptions import CORRUPTIONS, EXTRA, SEVERITIES, STANDARD, blur, corrupt, digital, weather
from regrow.train.data.corruptions.draws import Draws
from regrow.train.data.official import cifar_c, imagenet_c


def images(count: int = 6, channels: int = 3, size: int = 32) -> Tensor:
    """Soft blobs, in bytes."""
    draw = torch.Generator().manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(count, channels, 8, 8, generator=draw), size, mode="bilinear")
    return (x * 255).round() / 255


X = images()
GREY = images(channels=1, size=28)
NONE = Draws((), range(len(X)))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch(kind: str) -> None:
    whole = corrupt(X, kind, 3, range(6))
    assert torch.equal(whole[2:4], corrupt(X[2:4], kind, 3, [2, 3]))
    assert whole.shape == X.shape
    assert (whole.min() >= 0, whole.max() <= 1) == (True, True)
    assert torch.equal((whole * 255).round() / 255, whole)
    assert 0.002 < (whole - X).abs().mean() < 0.4


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "snow", "fog"])
def test_what_is_random_depends_on_seed_and_image(kind: str) -> None:
    same = X[:1].expand(2, -1, -1, -1)
    first, second = corrupt(same, kind, 5, [0, 1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, corrupt(X[:1], kind, 5, [0], seed=1)[0])


@pytest.mark.parametrize("kind", [kind for kind, what in CORRUPTIONS.items() if not what.colour])
@pytest.mark.parametrize("size", [8, 28])
def test_grey_and_small_images_too(kind: str, size: int) -> None:
    x = images(channels=1, size=size)
    assert torch.isfinite(corrupt(x, kind, 5, range(6))).all()


def test_the_kinds_and_what_only_official_files_have() -> None:
    assert len(STANDARD) == 15
    assert {*STANDARD, *EXTRA} - {*CORRUPTIONS} == {"frost", "spatter"}
    assert all(len(what.levels) == len(SEVERITIES) for what in CORRUPTIONS.values())


@pytest.mark.parametrize("kind", ["gaussian_noise", "defocus_blur", "zoom_blur", "fog", "contrast", "shot_noise"])
def test_severity_grows(kind: str) -> None:
    changes = [(corrupt(X, kind, severity, range(6)) - X).abs().mean().item() for severity in SEVERITIES]
    assert changes == sorted(changes)


@pytest.mark.parametrize("sigma", [0.25, 0.7, 1.5])
def test_gaussians_are_scipys(sigma: float) -> None:
    theirs = [ndimage.gaussian_filter(channel, sigma, mode="nearest") for channel in X.flatten(0, 1).numpy()]
    np.testing.assert_allclose(blur.smoothed(X, sigma).flatten(0, 1).numpy(), theirs, atol=1e-6)
    field = torch.rand(1, 1, 9, 9)
    ours = blur.smoothed(field, 6.4, "symmetric", reach=19)[0, 0]
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(field[0, 0], 6.4, mode="reflect", truncate=3), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 1.06, 1.25, 2.25])
def test_zoom_is_scipys(factor: float) -> None:
    height = int(np.ceil(32 / factor))
    top = (32 - height) // 2
    large = ndimage.zoom(X[0, 0, top : top + height, top : top + height].numpy(), factor, order=1)
    trim = (large.shape[0] - 32) // 2
    np.testing.assert_allclose(blur.zoomed(X, factor)[0, 0], large[trim : trim + 32, trim : trim + 32], atol=1e-6)


@pytest.mark.parametrize("edge", [False, True])
def test_bending_samples_as_scipy_does(edge: bool) -> None:
    at = torch.rand(len(X), 32, 32, 2) * 40 - 4
    ours = digital._sampled(X, at, edge)
    right, down = at[0].double().unbind(-1)
    theirs = ndimage.map_coordinates(X[0, 0].double(), [down, right], order=1, mode="reflect" if edge else "mirror")
    np.testing.assert_allclose(ours[0, 0], theirs, atol=1e-4)


def test_brightness_and_saturation_are_of_hsv() -> None:
    bright, vivid = weather.brightness(X, 0.2, NONE), weather.saturate(X, (2, 0.1), NONE)
    for place in ((0, 0, 0), (3, 10, 17), (5, 31, 31)):
        h, s, v = colorsys.rgb_to_hsv(*X[place[0], :, place[1], place[2]].tolist())
        expected = colorsys.hsv_to_rgb(h, s, min(v + 0.2, 1)), colorsys.hsv_to_rgb(h, min(2 * s + 0.1, 1), v)
        for ours, theirs in zip((bright, vivid), expected, strict=True):
            assert ours[place[0], :, place[1], place[2]].tolist() == pytest.approx(theirs, abs=1e-6)
    black_and_grey = torch.tensor([0.0, 0.4]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert weather.brightness(black_and_grey, 0.3, NONE)[0, :, 0, 0].tolist() == pytest.approx([0.3] * 3)
    assert weather.saturate(black_and_grey, (1, 0.5), NONE)[0, :, 0, 1].tolist() == pytest.approx([0.4, 0.2, 0.2])


def test_a_disk_keeps_the_mean_and_a_point_becomes_the_disk() -> None:
    point = torch.zeros(1, 1, 15, 15)
    point[0, 0, 7, 7] = 1
    disk = blur.defocus_blur(point, (2, 1e-3), NONE)[0, 0]
    assert disk.sum().item() == pytest.approx(1)
    assert disk[disk > 0].unique().tolist() == pytest.approx([1 / 13])  # 13 whole pixels within a distance of 2


def test_motion_smears_one_sidedly_along_the_angle() -> None:
    point = torch.zeros(2, 1, 21, 21)
    point[:, 0, 10, 10] = 1
    right, down = blur.smeared(point, 3, 1.0, torch.tensor([0.0, 90.0]))[:, 0]
    taps = torch.exp(-(torch.arange(7.0) ** 2) / 2)
    torch.testing.assert_close(right[10, 4:11].flip(0), taps / taps.sum())
    torch.testing.assert_close(down, right.T)


def test_glass_copies_from_the_upper_left_inside() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8) / 255
    out = (blur.glass_blur(x, (0.05, 1, 1), Draws((), [0])) * 255).round().long()[0, 0]
    places = torch.arange(64).view(8, 8)
    moved = places - out
    assert set(moved[2:, 2:].flatten().tolist()) == {0, 1, 8, 9}
    assert moved[:2].abs().sum() == moved[:, :2].abs().sum() == 0


def test_plasma_fills_zero_to_one() -> None:
    clouds = weather.plasma(32, 3, Draws((), range(6)))
    assert clouds.amin((1, 2)).tolist() == [0] * 6
    assert clouds.amax((1, 2)).tolist() == [1] * 6
    steps = (clouds - clouds.roll(1, 2)).abs().mean()
    assert steps < weather.plasma(32, 1.5, Draws((), range(6))).diff(dim=2).abs().mean()  # rougher


def test_jpeg_and_pixelate_are_pillows() -> None:
    image = Image.fromarray((X[0] * 255).round().byte().permute(1, 2, 0).numpy())
    theirs = image.resize((20, 20), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
    ours = (corrupt(X[:1], "pixelate", 5, [0])[0] * 255).round().byte().permute(1, 2, 0)
    assert np.array_equal(ours, np.asarray(theirs))
    assert (corrupt(X, "jpeg_compression", 1, range(6)) - X).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("x", "kind", "severity", "numbers", "words"),
    [
        (X, "gausian_noise", 1, 6, "did you mean 'gaussian_noise'?"),
        (X, "frost", 1, 6, "unknown corruption 'frost'"),
        (X, "fog", 6, 6, "published ones are 1 to 5"),
        (X, "fog", 1, 5, "5 numbers"),
        (X.flatten(1), "fog", 1, 6, "[N, 1 or 3, H, W]"),
        ((X * 255).byte(), "fog", 1, 6, "torch.uint8"),
        (torch.zeros(1, 3, 96, 96), "fog", 1, 1, "ImageNet-C"),
        (GREY, "saturate", 1, 6, "these images are grey"),
    ],
)
def test_refusals(x: Tensor, kind: str, severity: int, numbers: int, words: str) -> None:
    with pytest.raises(RegrowError) as caught:
        corrupt(x, kind, severity, range(numbers))
    assert words in str(caught.value)


def write_official(root: Path) -> Path:
    folder = root / "CIFAR-10-C"
    folder.mkdir()
    array = np.lib.format.open_memmap(folder / "frost.npy", "w+", np.uint8, (50_000, 32, 32, 3))  # sparse on disk
    array[20_000, 1, 2] = (7, 8, 9)
    np.save(folder / "labels.npy", (np.arange(50_000) % 10).astype(np.uint8))
    return folder


def test_official_cifar_files_are_read(tmp_path: Path) -> None:
    folder = write_official(tmp_path)
    found = cifar_c(tmp_path, "cifar10", "frost", 3)
    assert found is not None
    assert (found[0].shape, found[0].dtype) == ((10_000, 3, 32, 32), torch.uint8)
    assert found[0][0, :, 1, 2].tolist() == [7, 8, 9]
    assert torch.equal(found[1], torch.arange(10_000) % 10)
    assert cifar_c(tmp_path, "cifar10", "spatter", 3) is None
    assert cifar_c(tmp_path, "digits", "frost", 3) is None
    np.save(folder / "frost.npy", np.zeros((10_000, 32, 32, 3), np.uint8))
    with pytest.raises(RegrowError, match=r"frost\.npy holds uint8 \(10000"):
        cifar_c(tmp_path, "cifar10", "frost", 3)
    (folder / "frost.npy").write_bytes(b"no array")
    with pytest.raises(RegrowError, match="not a readable"):
        cifar_c(tmp_path, "cifar10", "frost", 3)


def test_official_imagenet_folders_are_read(tmp_path: Path) -> None:
    for at, name in enumerate(("n01", "n02")):
        place = tmp_path / "ImageNet-C" / "weather" / "frost" / "2" / name
        place.mkdir(parents=True)
        Image.new("RGB", (32, 32), (200 * at, 0, 0)).save(place / "a.JPEG")
    batches = imagenet_c(tmp_path, "frost", 2, classes=2, size=32)
    assert batches is not None
    [(x, y)] = batches
    assert (x.shape, y.tolist()) == ((2, 3, 32, 32), [0, 1])
    assert x[1, 0].mean() > x[0, 0].mean()
    assert imagenet_c(tmp_path, "frost", 3, classes=2, size=32) is None
    with pytest.raises(RegrowError, match="2 classes, and the model tells 1000 apart"):
        imagenet_c(tmp_path, "frost", 2, classes=1000, size=32)
