"""A recipe's network by its shapes alone: it is built on torch's "meta" device, where nothing is stored or computed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from regrow.core.errors import RegrowError
from regrow.core.topology import Shape, Topology
from regrow.execution.parts import Part, Verdict, locate, survey
from regrow.execution.sparse_sites import places_of
from regrow.lab.plan.sizes import Sizes
from regrow.metrics.flops import dense_flops
from regrow.recipe.build import model_of
from regrow.recipe.schema import Recipe
from regrow.recipe.tweaks import tweaks_of
from regrow.sparsifier.start import parts_of
from regrow.tweaks.base import Context


@dataclass(frozen=True)
class Activations:
    """Bytes a sample: `kept` until the backward pass; `forward` and `backward`, the most that one layer works on."""

    kept: int
    forward: int
    backward: int


@dataclass(frozen=True)
class Net:
    """What a plan must know of a model.

    Args:
        model: on "meta", with the ghosts of its tweaks.
        verdicts: of each parameter, whether it is sparse.
        parts: the sites, none of a dense run.
        parameters, tensors: numbers of weights and of their tensors, without ghosts.
        buffers: their bytes.
        flops: of each weight's product with one sample in a forward pass, if it is dense; ghosts among them.
        haunted: share of the first phase in which ghosts live.
        activations: what forward passes hold.
    """

    model: nn.Module
    verdicts: tuple[Verdict, ...]
    parts: Mapping[str, Part]
    parameters: int
    tensors: int
    buffers: int
    flops: Mapping[str, int]
    haunted: float
    activations: Activations

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the sites."""
        return {name: part.shape for name, part in self.parts.items()}

    @property
    def numel(self) -> int:
        """Weights of the sites, if all existed."""
        return sum(part.numel for part in self.parts.values())

    def refusal(self) -> str:
        """Why the sparse backend would not train it, or nothing."""
        empty = copy.deepcopy(self.model).to_empty(device="cpu")  # where backends ask; untouched memory costs none
        try:
            places_of(empty, locate(empty, self.parts))
        except RegrowError as error:
            return str(error)
        return ""


def net_of(recipe: Recipe, sizes: Sizes) -> Net:
    """Raises:
    RegrowError: a model that cannot take the data, or none of whose weights may be sparse.
    """
    with torch.device("meta"):
        model = model_of(recipe, sizes.shape, sizes.classes)
    verdicts = survey(model, recipe.include, recipe.exclude) if recipe.method else []
    parts = parts_of(model, verdicts) if recipe.method else {}
    weights = [parameter.numel() for parameter in model.parameters()]
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    haunted = _haunt(recipe, model, parts)
    return Net(
        model=model,
        verdicts=tuple(verdicts),
        parts=parts,
        parameters=sum(weights),
        tensors=len(weights),
        buffers=buffers,
        flops=dense_flops(model, torch.zeros(1, *sizes.shape, device="meta"), sites=parts),
        haunted=haunted,
        activations=_activations(model, sizes.shape),
    )


def _haunt(recipe: Recipe, model: nn.Module, parts: Mapping[str, Part]) -> float:
    """Attach what lives beside the model for a while; for what share of the first phase it does."""
    shapes = {name: part.shape for name, part in parts.items()}
    context = Context(Topology({name: torch.empty(0, dtype=torch.int64) for name in shapes}, shapes))
    lasting = [tweak for tweak in tweaks_of(recipe) if tweak.until and not tweak.on_loss]
    return max((tweak.until for tweak in lasting if tweak.attach(model, context)), default=0.0)


def _activations(model: nn.Module, shape: tuple[int, ...]) -> Activations:
    """Of two samples (norms refuse one), halved; weights and buffers are none of them."""
    kept: dict[int, int] = {}
    own = {_memory(tensor) for tensor in [*model.parameters(), *model.buffers()]}

    def keep(tensor: Tensor) -> Tensor:
        if _memory(tensor) not in own:
            kept[_memory(tensor)] = tensor.untyped_storage().nbytes()
            held.append(tensor)  # while it lives, no other has its number
        return tensor

    held: list[Tensor] = []
    widest = _Widest()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), widest:
        model.train()(torch.zeros(2, *shape, device="meta"))
    return Activations(ceil(sum(kept.values()) / 2), ceil(widest.forward / 2), ceil(widest.backward / 2))


_COPYING = (functional.conv1d, functional.conv2d, functional.conv3d)
"""They compute on a layout of their own: on a copy of what they give, and going back of what they took, too."""


class _Widest(TorchFunctionMode):
    """The most that one function takes and gives, copies included; going back, the gradients of both."""

    forward = backward = 0.0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        tensors = {_memory(each): each for each in (*args, found) if isinstance(each, Tensor)}
        both = sum(t.untyped_storage().nbytes() for t in tensors.values() if not isinstance(t, nn.Parameter))
        copies = function in _COPYING
        self.forward = max(self.forward, both * (1.5 if copies else 1.0))
        self.backward = max(self.backward, both * (2.0 if copies else 1.0))
        return found


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
