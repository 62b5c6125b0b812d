"""What a resumed run must share with the one that went on, and the examples, loaded as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from regrow.sparsifier import Sparsifier

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    """An example file, imported without running its main part."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bits(model: nn.Module, sparsifier: Sparsifier) -> list[Any]:
    """Weights, buffers, optimizer state, masks, R_s and step, bit for bit."""
    state = sparsifier.optimizer.state
    entries = [v for p in model.parameters() for _, v in sorted(state.get(p, {}).items()) if isinstance(v, Tensor)]
    tensors = [*model.state_dict().values(), *entries]
    words = [sparsifier.step, sparsifier.topology.digest(), sparsifier.explored.digest()]
    return [*words, *(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes() for tensor in tensors)]


def zeros_hold(model: nn.Module, sparsifier: Sparsifier) -> bool:
    """Whether everything outside the topology is exactly zero."""
    plain = model.state_dict()
    return all(bool((plain[name][~mask] == 0).all()) for name, mask in sparsifier.topology.items())
