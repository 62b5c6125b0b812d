"""Ghost skip connections: paths around sparse layers that fade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from regrow.core import rng
from regrow.core.errors import RegrowError
from regrow.tweaks.base import GHOST, Context, Fading
from regrow.tweaks.branch import Branch, Layer
from regrow.tweaks.choice import chosen


@dataclass(kw_only=True)
class GhostSkip(Fading):
    """y = BN(W x) + alpha BN'(V x) beside every sparse layer, alpha fading to 0.

    Jaiswal et al. 2022, arXiv:2206.12755, and their code for basic blocks. V is dense: a 1x1 convolution beside a
    convolution, a matrix beside a linear layer. It joins after the BatchNorm that directly follows the layer, else
    after the layer. The last linear layer, which gives the outputs, has none unless `include` names it. V x with alpha
    0 is not computed: the net is the plain one, bit for bit.

    Args:
        start, stop: alpha at first and at last.
        identity: alpha x where input and output are alike, V elsewhere.
        constant: the first value of all of V, instead of a draw; the published code has 1e-4, which makes all output
            channels alike.
        include, exclude: patterns for the names of layers.
    """

    start: float = 1.0
    stop: float = 0.0
    until: float = 0.4
    identity: bool = False
    constant: float | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    _branches: dict[str, Branch] = field(default_factory=dict, init=False, repr=False)
    _layers: list[Layer] = field(default_factory=list, init=False, repr=False)
    _hooks: list[RemovableHandle] = field(default_factory=list, init=False, repr=False)

    def attach(self, model: nn.Module, context: Context) -> Mapping[str, nn.Parameter]:
        found = dict(_sparse_layers(model, context))
        outputs = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
        if not self.include:
            found = {name: layer for name, layer in found.items() if name not in outputs}
        wanted = "sparse convolutions or linear layers before the last"
        followers = dict(_followers(model))
        for name, layer in chosen(self.name, wanted, model, found, self.include, self.exclude).items():
            if hasattr(layer, GHOST):
                raise RegrowError(f"{self.name}: {name!r} has a ghost already; finalize() the sparsifier it is under")
            branch = Branch(layer, rng.generator(context.seed, 0, name, GHOST), self.identity, self.constant)
            layer.add_module(GHOST, branch)
            context.host(branch)
            self._branches[name] = branch
            self._layers.append(layer)
            self._hook(name, layer, followers.get(id(layer)), branch)
        return {
            f"{name}.{GHOST}.{leaf}".removeprefix("."): parameter
            for name, branch in self._branches.items()
            for leaf, parameter in branch.named_parameters()
        }

    def _hook(self, name: str, layer: Layer, norm: nn.Module | None, branch: Branch) -> None:
        if norm is None:
            self._hooks.append(layer.register_forward_hook(partial(_add, branch)))
        else:
            self._hooks.append(layer.register_forward_hook(partial(_enter, branch)))
            self._hooks.append(norm.register_forward_hook(partial(_join, branch, name)))

    def at(self, progress: float) -> None:
        for branch in self._branches.values():
            branch.alpha = self.strength(progress)

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers:
            delattr(layer, GHOST)
        self._branches, self._layers, self._hooks = {}, [], []

    def note(self) -> str:
        if not self._branches:
            return ""
        branches = self._branches.values()
        size = sum(p.numel() for branch in branches for p in branch.parameters())
        flops = sum(branch.flops for branch in branches)
        spent = f"{flops:.3g} FLOPs per sample forward, three times that in training" if flops else "FLOPs not seen yet"
        alpha = next(iter(branches)).alpha
        return f"{len(branches)} branches, alpha {alpha:.3g}, {size} parameters, {spent}"


def _sparse_layers(model: nn.Module, context: Context) -> Iterator[tuple[str, Layer]]:
    sites = {site.rpartition(".")[0] for site in context.topology if site.rpartition(".")[2] == "weight"}
    inside = {id(child) for m in model.modules() if isinstance(m, nn.MultiheadAttention) for child in m.children()}
    for name, module in model.named_modules():
        if name in sites and isinstance(module, Layer) and id(module) not in inside:  # attention calls no projection
            yield name, module


def _followers(model: nn.Module) -> Iterator[tuple[int, nn.Module]]:
    """Layer -> the BatchNorm registered directly after it, of as many channels."""
    for parent in model.modules():
        for layer, norm in pairwise(parent.children()):
            if isinstance(layer, Layer) and isinstance(norm, _BatchNorm):
                width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
                if norm.num_features == width:
                    yield id(layer), norm


def _add(branch: Branch, layer: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    return out if branch.alpha == 0.0 else branch(args[0], out)


def _enter(branch: Branch, layer: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
    branch.entered = (args[0], out)


def _join(branch: Branch, name: str, norm: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
    entered, branch.entered = branch.entered, None
    if entered is None or branch.alpha == 0.0:
        return out
    x, left = entered
    if args[0] is not left:
        raise RegrowError(
            f"ghost-skip: the BatchNorm registered after {name!r} normalises something else, so where the branch is to "
            f"join is not known; exclude=[{name!r}]"
        )
    joined: Tensor = branch(x, out)
    return joined
