"""Automatic execution: truly sparse where that is faster, masked elsewhere, as measured once on one's own batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from regrow.core.errors import RegrowError
from regrow.core.patterns import Pattern
from regrow.core.site import Site
from regrow.core.topology import Topology
from regrow.execution import trial
from regrow.execution.base import Backend
from regrow.execution.masked import MaskedBackend
from regrow.execution.sparse import SparseBackend


@dataclass(frozen=True)
class Decision:
    """Which sites run sparse, and the seconds of the ways that were measured, forward and backward."""

    sparse: tuple[str, ...]
    seconds: Mapping[str, float]
    threads: int

    def record(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"sparse": list(self.sparse), "seconds": dict(self.seconds)}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Decision:
        """Raises:
        RegrowError: this is no stored decision.
        """
        try:
            return cls(tuple(record["sparse"]), dict(record["seconds"]), int(record["threads"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RegrowError(f"this is no stored decision of backend='auto': {error!r}") from error

    def words(self) -> str:
        ways = ", ".join(f"{seconds * 1e3:.3g} ms {way}" for way, seconds in self.seconds.items())
        return f"measured forward and backward with {self.threads} threads: {ways}" if ways else "nothing can run so"


class _Watch:
    """The hook on the model. Copies and pickles of the model carry one that does nothing."""

    def __init__(self, backend: AutoBackend | None = None) -> None:
        self._backend = backend

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._backend is not None and model.training and torch.is_grad_enabled():
            self._backend.measure(args, kwargs)

    def __reduce__(self) -> tuple[type[_Watch], tuple[()]]:
        return _Watch, ()


class AutoBackend:
    """Masked until the first training forward pass, whose batch it measures; from then on as that has decided."""

    topology: Topology
    decision: Decision | None = None

    def attach(self, model: nn.Module, topology: Topology, optimizer: Optimizer | None = None) -> None:
        self._model, self._optimizer = model, optimizer
        self._handle: RemovableHandle | None = None
        self._target = {name: topology.nnz_of(name) for name in topology}
        self._needs: frozenset[str] = frozenset()
        self._births: Mapping[str, int] = {}
        self._parts: list[MaskedBackend | SparseBackend] = []
        self._run(topology, ())
        self.decide_again()

    @property
    def note(self) -> str:
        """What a user should know of its speed, in a sentence."""
        if self.decision is None:
            return "auto: masked until the first training step, which measures whether sparse is faster"
        many = f"{len(self.decision.sparse)} of {len(self.topology)} sites run truly sparse, the others masked"
        return f"auto: {many}; {self.decision.words()}"

    def decide_again(self) -> None:
        """Let the next training forward pass be measured, and decide."""
        if self._handle is None:
            self._handle = self._model.register_forward_pre_hook(_Watch(self), with_kwargs=True, prepend=True)

    def adopt(self, decision: Decision) -> None:
        """Run as was decided before.

        Raises:
            RegrowError: it names sites that are none.
        """
        foreign = [name for name in decision.sparse if name not in self.topology]
        if foreign:
            raise RegrowError(f"the decision of backend='auto' names sites that the model has not: {foreign[:3]}")
        self._forget_hook()
        self._run(self.topology, decision.sparse)
        self.decision = decision

    @_disable_dynamo  # as torch.compiler.disable, which would load the compiler together with regrow
    def measure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Decide, by what the model is about to be called with."""
        self._forget_hook()
        found = trial.find(self._model, self.topology, (args, kwargs))
        self.adopt(Decision(found.sparse, found.seconds, torch.get_num_threads()))

    def _forget_hook(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _run(self, topology: Topology, sparse: Iterable[str]) -> None:
        """Put these sites on the sparse backend, the others on the masked one."""
        buffers, chosen = self.buffers(), frozenset(sparse)
        for part in self._parts:
            part.detach()
        self._parts = trial.put(self._model, topology, chosen, self._optimizer)
        self.topology = topology
        if buffers:
            self.restore(topology, buffers)
        self.expect(self._needs, self._births)

    def host(self, module: nn.Module) -> None:
        for part in self._parts:
            part.host(module)

    def expect(self, needs: frozenset[str], births: Mapping[str, int]) -> None:
        self._needs, self._births = needs, births
        for part in self._parts:
            part.expect(needs, {name: k for name, k in births.items() if name in part.topology})

    @property
    def ready(self) -> bool:
        return all(part.ready for part in self._parts)

    def sites(self, pattern: Pattern) -> dict[str, Site]:
        found = {name: site for part in self._parts for name, site in part.sites(pattern).items()}
        return {name: replace(found[name], target=self._target[name]) for name in self.topology}

    def mask_grads(self) -> None:
        for part in self._parts:
            part.mask_grads()

    def commit(self, topology: Topology, reborn: Mapping[str, Tensor] | None = None) -> Mapping[str, Tensor]:
        born: dict[str, Tensor] = {}
        for part in self._parts:
            again = {name: at for name, at in (reborn or {}).items() if name in part.topology}
            born |= part.commit(trial.part_of(topology, part.topology.keys()), again)
        self.topology = topology
        return born

    def project(self) -> None:
        for part in self._parts:
            part.project()

    def settle(self) -> None:
        for part in self._parts:
            part.settle()

    def buffers(self) -> dict[str, Tensor]:
        return {name: buffer for part in self._parts for name, buffer in part.buffers().items()}

    def restore(self, topology: Topology, buffers: Mapping[str, Tensor]) -> None:
        for part in self._parts:
            part.restore(trial.part_of(topology, part.topology.keys()), buffers)
        self.topology = topology

    def detach(self) -> None:
        self._forget_hook()
        for part in self._parts:
            part.detach()
        self._parts = []


def stored(backend: Backend) -> dict[str, Any] | None:
    """What a checkpoint must hold of the decision, if there is one."""
    decision = backend.decision if isinstance(backend, AutoBackend) else None
    return decision.record() if decision else None


def take_up(backend: Backend, record: Mapping[str, Any] | None) -> None:
    """Run as the checkpoint has decided.

    Raises:
        RegrowError: here was decided otherwise, or the backend is not "auto".
    """
    if record is None:
        return
    saved = Decision.of(record)
    if not isinstance(backend, AutoBackend):
        raise RegrowError(
            f"the saved sparsifier is of backend='auto', which had decided to run {len(saved.sparse)} sites sparse; "
            "this one is of another backend: set it up as it was saved"
        )
    if backend.decision and {*backend.decision.sparse} != {*saved.sparse}:
        apart = sorted({*backend.decision.sparse} ^ {*saved.sparse})
        raise RegrowError(
            f"backend='auto' has decided otherwise here than in the saved sparsifier: {', '.join(apart[:5])} "
            f"({len(apart)} sites differ); load the state before the first training step"
        )
    backend.adopt(saved)
