"""timm: its `CheckpointSaver`, which keeps the masks and R_s of a sparsifier too. The training loop stays timm's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.utils import CheckpointSaver  # type: ignore[import-not-found, import-untyped, unused-ignore]

from regrow.core.errors import RegrowError
from regrow.sparsifier import Sparsifier


class SparseSaver(CheckpointSaver):  # type: ignore[misc, unused-ignore]  # timm has no types
    """`timm.utils.CheckpointSaver` of a model that trains sparsely; the sparsifier's state is in the saver's own.

    Sparsify before `ModelEmaV3` and after `create_optimizer_v2`. To resume: `timm.models.resume_checkpoint`, then
    `saver.load_state_dict(checkpoint["saver"])`, as timm's train.py does.

    Args:
        rest: what `CheckpointSaver` takes.

    Raises:
        RegrowError: a timm whose saver keeps no state of its own (before 1.0.31).
    """

    def __init__(self, model: Any, optimizer: Any, *, sparsifier: Sparsifier, **rest: Any) -> None:
        if not hasattr(CheckpointSaver, "state_dict"):
            raise RegrowError("this timm's CheckpointSaver keeps no state of its own; SparseSaver needs timm>=1.0.31")
        super().__init__(model, optimizer, **rest)
        self.sparsifier = sparsifier

    def state_dict(self, epoch: int | None = None, metric: float | None = None) -> dict[str, Any]:
        """timm's bookkeeping, and the sparsifier."""
        return {**super().state_dict(epoch, metric), "sparsifier": self.sparsifier.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up a run.

        Raises:
            RegrowError: the checkpoint was saved without a sparsifier, or by one of another setup.
        """
        if "sparsifier" not in state_dict:
            raise RegrowError("this timm checkpoint holds no sparsifier: it was not written by SparseSaver")
        self.sparsifier.load_state_dict(state_dict["sparsifier"])
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "sparsifier"})
