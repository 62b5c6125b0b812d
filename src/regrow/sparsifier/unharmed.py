"""What is refused half-way leaves a model and its optimizer as they were."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim import Optimizer

from regrow.core.errors import RegrowError
from regrow.tweaks.life import Tweaks


@contextmanager
def unharmed(model: nn.Module, optimizer: Optimizer, tweaks: Tweaks) -> Iterator[None]:
    """Put back all values where what is done within is refused; with tweaks, for the rest refuses before it changes
    anything. A copy of the values is held meanwhile."""
    if not tweaks.words():
        yield
        return
    values, state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    try:
        yield
    except RegrowError:
        model.load_state_dict(values)
        optimizer.load_state_dict(state)
        raise
