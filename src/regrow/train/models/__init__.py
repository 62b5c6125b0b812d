"""Models by name: `build("resnet18", (3, 32, 32), 10)`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

from torch import nn

from regrow.core.errors import RegrowError, choose, nearest
from regrow.train.models.batch_ensemble import batch_ensemble
from regrow.train.models.cifar_resnet import cifar_resnet
from regrow.train.models.cnn import cnn
from regrow.train.models.from_timm import timm_model
from regrow.train.models.lenet import lenet5
from regrow.train.models.mimo import mimo
from regrow.train.models.mlp import lenet300, mlp
from regrow.train.models.mobilenet import mobilenet_v1, mobilenet_v2
from regrow.train.models.resnet import resnet18, resnet34, resnet50
from regrow.train.models.small import small_mlp
from regrow.train.models.treenet import treenet
from regrow.train.models.vgg import vgg16, vgg16_c, vgg16_d
from regrow.train.models.vit import vit
from regrow.train.models.wrn import wrn, wrn28_10

__all__ = ["MODELS", "build"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "small_mlp": small_mlp,
    "treenet": treenet,
    "batch_ensemble": batch_ensemble,
    "mimo": mimo,
    "lenet300": lenet300,
    "lenet5": lenet5,
    "cnn": cnn,
    "vgg16": vgg16,
    "vgg16_c": vgg16_c,
    "vgg16_d": vgg16_d,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "cifar_resnet": cifar_resnet,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "vit": vit,
    "wrn": wrn,
    "wrn28_10": wrn28_10,
}


def build(name: str, shape: tuple[int, ...] = (1, 28, 28), classes: int = 10, **options: Any) -> nn.Module:
    """The model `name` for inputs of `shape` (without the batch), or `timm:NAME`. Draws from torch's global generator.

    Raises:
        RegrowError: unknown name or option, or a shape the model cannot take.
    """
    if name.startswith("timm:"):
        return timm_model(name.removeprefix("timm:"), shape, classes, options)
    return factory_of(name, options)(tuple(shape), classes, **options)


def factory_of(name: str, options: Iterable[str] = ()) -> Callable[..., nn.Module]:
    """What makes the model `name`, of those in `MODELS`, with options of those names.

    Raises:
        RegrowError: unknown name or option.
    """
    factory = choose(MODELS, name, "model")
    valid = list(signature(factory).parameters)[2:]
    for option in options:
        if option not in valid:
            raise RegrowError(
                f"model {name!r} has no option {option!r}{nearest(option, valid)} "
                f"Its options: {', '.join(valid) or 'none'}."
            )
    return factory
