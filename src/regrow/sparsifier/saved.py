"""The state of a sparsifier, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.topology import Shape, Topology
from regrow.sparsifier.tally import Tally


@dataclass(frozen=True)
class Saved:
    """What `Sparsifier.state_dict` holds, unpacked."""

    step: int
    setup: dict[str, Any]
    topology: Topology
    explored: Topology
    buffers: dict[str, Tensor]
    exploration: float | None
    tally: Tally
    decision: Mapping[str, Any] | None

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Saved:
        """Raises:
        RegrowError: this is no such state, or a damaged one.
        """
        try:
            topology, explored = Topology.unpack(state["topology"]), Topology.unpack(state["explored"])
            setup, step, buffers, exploration = (state[k] for k in ("setup", "step", "buffers", "exploration"))
            tally, decision = Tally(topology, state["weight_steps"], step), state.get("decision")
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise RegrowError(
                f"this is not the state of a sparsifier: {error!r}; pass what state_dict() gave"
            ) from error
        return cls(step, setup, topology, explored, buffers, exploration, tally, decision)

    def check(self, setup: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
        """Raises:
        RegrowError: a sparsifier of this setup and these sites is another one.
        """
        keys = [key for key in {**setup, **self.setup} if self.setup.get(key) != setup.get(key)]
        other = [f"{key}: saved {self.setup.get(key)!r}, here {setup.get(key)!r}" for key in keys]
        if self.topology.shapes != shapes:
            other.append("the sparse sites")
        if other:
            raise RegrowError(
                f"the saved sparsifier differs from this one in {'; '.join(other)}; set it up as it was saved"
            )
