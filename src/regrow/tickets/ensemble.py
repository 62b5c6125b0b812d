"""Ensemble: several tickets of one architecture as one model, run in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from regrow.core.errors import RegrowError, choose
from regrow.execution import BACKENDS
from regrow.execution.refuse import unwrap_model
from regrow.tickets.graph import recorded
from regrow.tickets.load import load
from regrow.tickets.stack import check, stack, stackable, stacked
from regrow.tickets.ticket import Ticket

_GRAPHS = 16
"""Shapes of input whose graphs are kept."""


class Ensemble(nn.Module):
    """p(y|x) = sum_m w_m softmax(z_m(x)) (Liu et al. 2022, arXiv:2106.14568), w_m = 1/M by default.

    One pass serves all members: the dense ones as batched products, the sparse ones as one product a layer with all
    members' connections. A model that `torch.func.vmap` cannot take runs member after member; `note` says why.

    Args:
        model: the architecture the tickets were taken from; it is copied, not changed.
        tickets: the members.
        backend: "masked": plain dense layers; "sparse": only the surviving weights exist.
        weights: the members', [M], not negative; they are scaled to a sum of 1.

    Raises:
        RegrowError: no tickets, tickets of another architecture, impossible weights, or a backend that cannot run it.
    """

    weights: Tensor

    def __init__(
        self,
        model: nn.Module,
        tickets: Sequence[Ticket],
        backend: str = "masked",
        weights: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        if not tickets:
            raise RegrowError("an ensemble needs at least one ticket")
        self.members_count = len(tickets)
        choose(BACKENDS, backend, "backend")
        plain = deepcopy(unwrap_model(model)).eval()
        check(plain, tickets)
        self._one_pass = backend == "masked" or stackable(plain, tickets[0])
        self.note = "one pass for all members"
        if self._one_pass:
            self.stack = stack(plain, tickets, backend)
        else:
            self.stack = nn.ModuleList(load(ticket, deepcopy(plain), backend) for ticket in tickets)
            self.note = "member after member: not all sparse layers are plain nn.Linear modules"
        self._graphs: dict[tuple[torch.Size, torch.dtype, torch.device], Callable[..., Tensor]] = {}
        self._tensors: dict[str, Tensor] = {}
        self.register_buffer("weights", self._checked([1.0] * len(tickets) if weights is None else weights))

    def train(self, mode: bool = True) -> Ensemble:
        """Members are finished: they stay in eval mode."""
        return super().train(False)

    def logits(self, x: Tensor) -> Tensor:
        """z [M, B, C]."""
        if self._one_pass:
            try:
                return self._at_once(x)
            except Exception as error:  # what is wrong with x is wrong for a single member too, and comes again
                z = self._in_turn(x)
                self._one_pass, self.note = (
                    False,
                    f"member after member, since vmap refuses: {_first_line(error)}",
                )
                return z
        return self._in_turn(x)

    def _at_once(self, x: Tensor) -> Tensor:
        """As a graph of tensor operations, recorded once for each shape where no gradient is wanted, because vmap takes
        longer than the products of a small batch."""
        self._tensors = tensors = self._tensors or stacked(self.stack)

        def members(x: Tensor, *values: Tensor) -> Tensor:
            states = dict(zip(tensors, values, strict=True))
            z: Tensor = vmap(lambda state: functional_call(self.stack, state, (x,)))(states)
            return z

        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            return members(x, *tensors.values())
        key = (x.shape, x.dtype, x.device)
        if key in self._graphs:
            z: Tensor = self._graphs[key](x)
            return z
        z = members(x, *tensors.values())  # first as it is: what layers make once must not become part of a graph
        if len(self._graphs) == _GRAPHS:
            self._graphs.pop(next(iter(self._graphs)))
        try:
            self._graphs[key] = recorded(members, x, [*tensors.values()])
        except Exception:  # a decision on values of x, which a graph cannot take
            self._graphs[key] = lambda x: members(x, *tensors.values())
        return z

    def _in_turn(self, x: Tensor) -> Tensor:
        if isinstance(self.stack, nn.ModuleList):
            return torch.stack([member(x) for member in self.stack])
        tensors = stacked(self.stack).items()
        states = ({name: tensor[m] for name, tensor in tensors} for m in range(self.members_count))
        return torch.stack([functional_call(self.stack, state, (x,)) for state in states])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Ensemble:
        """To another device or type, where the graphs do not lead."""
        self._graphs, self._tensors = {}, {}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def members(self, x: Tensor) -> Tensor:
        """Each member's probabilities, [M, B, C]."""
        return _single(self.logits(x)).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """The weighted mean of the members' probabilities, [B, C]."""
        each = self.members(x)
        return (self.weights @ each.flatten(1)).view(each.shape[1:])

    def log_probabilities(self, x: Tensor) -> Tensor:
        """log p(y|x) [B, C], finite where every member's probability underflows."""
        each = _single(self.logits(x)).log_softmax(-1)
        return torch.logsumexp(each + self.weights.log().view(-1, *[1] * (each.dim() - 1)), 0)

    @torch.no_grad()
    def weigh(self, batches: Iterable[tuple[Tensor, Tensor]], rounds: int = 100) -> Tensor:
        """Fit the weights to validation data: those of greatest likelihood, by expectation maximisation.

        w_m <- mean over samples of w_m p_m(y|x) / sum_k w_k p_k(y|x). Returns them, [M].
        """
        truth = [
            _single(self.logits(x)).log_softmax(-1).gather(-1, y.expand(self.members_count, -1)[..., None])[..., 0]
            for x, y in batches
        ]
        if not truth:
            raise RegrowError("weights are fitted to validation data, and no batch was given")
        return self.weights.copy_(likeliest(torch.cat(truth, 1), self.weights, rounds))

    def extra_repr(self) -> str:
        return f"{self.members_count} members, {self.note}"

    def _checked(self, weights: Sequence[float] | Tensor) -> Tensor:
        w = torch.as_tensor(weights, dtype=torch.float32).detach().clone()
        if w.shape != (self.members_count,) or not bool((w >= 0).all()) or not 0 < float(w.sum()) < float("inf"):
            raise RegrowError(
                f"weights={w.tolist()}: an ensemble of {self.members_count} needs as many, not negative, not all zero"
            )
        return w / w.sum()


def likeliest(log_p: Tensor, weights: Tensor | None = None, rounds: int = 100) -> Tensor:
    """The weights [M] of greatest likelihood given log p_m(y|x) [M, N], by expectation maximisation from `weights`."""
    w = torch.full_like(log_p[:, 0], 1 / len(log_p)) if weights is None else weights
    for _ in range(rounds):
        w = (log_p + w.log()[:, None]).softmax(0).mean(1)
    return w


def predict(model: nn.Module, tickets: Sequence[Ticket], x: Tensor, backend: str = "masked") -> Tensor:
    """Each ticket's probabilities, [M, B, C]."""
    with torch.inference_mode():
        return Ensemble(model, tickets, backend).members(x)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _single(logits: Tensor) -> Tensor:
    """In float32 at least: half precision knows few probabilities."""
    return logits.float() if logits.dtype.itemsize < 4 else logits
