"""ITOP's CIFAR-100 ResNet-34, and EDST, DST and Sup-tickets on a ResNet-18, in pieces of a few minutes. See README.md.

Needs torch, numpy, Pillow and the data; of regrow only what imports nothing more.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from benchmarks.gpu.cells import SUITES, Cell
from benchmarks.gpu.judge import judge, packed, unpacked
from torch import Tensor, nn

from regrow.core.errors import choose
from regrow.core.rng import seed_of
from regrow.core.topology import Topology
from regrow.sparsifier import Sparsifier, sparsify
from regrow.tickets import Ticket
from regrow.tickets.plan import capture_steps, learning_rate, total_steps
from regrow.train import atomic, checkpoint, data, models
from regrow.train.surroundings import commit, device_name

CHECKPOINT_SECONDS = 240
DENSE = Topology({}, {})


@dataclass(frozen=True)
class Settings:
    """What decides a result; `epochs` is the reference length, the papers' 250."""

    suite: str
    cell: str
    seed: int
    data: str
    precision: str
    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    @property
    def spec(self) -> Cell:
        return choose(SUITES[self.suite].cells, self.cell, "cell")

    @property
    def name(self) -> str:
        data = self.data.replace(":", "-")
        return f"{self.suite}-{self.cell}-{data}-{self.precision}-{self.epochs}-seed{self.seed}"

    def members(self) -> list[Settings]:
        """The runs that the cell is made of: its own, or those of another cell with seeds of their own."""
        count = self.spec.members
        seeds = range(count * self.seed, count * (self.seed + 1))
        return [replace(self, cell=self.spec.of, seed=seed) for seed in seeds] or [self]


class Run:
    """One run under way, on the fastest device there is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.deterministic = True  # a continued run repeats the uninterrupted one
        self.data = data.load(settings.data, validation=0.0)
        self.per_epoch = self.data.steps(settings.batch_size)
        reference = settings.epochs * self.per_epoch
        self.plan = settings.spec.plan(reference)
        self.total, self.rate = total_steps(self.plan), learning_rate(self.plan)
        self.model = self._fresh()
        lr, momentum, decay = settings.lr, settings.momentum, settings.weight_decay
        nesterov = SUITES[settings.suite].nesterov
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr, momentum, weight_decay=decay, nesterov=nesterov)
        self.sparsifier = self._sparsifier(settings.spec, reference)
        self.step, self.seconds = 0, 0.0
        self.tickets: list[Ticket] = []

    def _fresh(self) -> nn.Module:
        torch.manual_seed(seed_of("model", self.settings.seed))
        network = SUITES[self.settings.suite].model
        return models.build(network, self.data.shape, self.data.classes).to(self.device)

    def _sparsifier(self, cell: Cell, reference: int) -> Sparsifier | None:
        if cell.density is None:
            return None
        return sparsify(
            self.model,
            self.optimizer,
            method="rigl-itop",
            density=cell.density,
            plan=self.plan,
            every=cell.every(reference),
            seed=self.settings.seed,
        )

    def train(self, file: Path, deadline: float) -> None:
        """Steps until the run's end or the deadline, at least one; the checkpoint `file` keeps up."""
        if file.exists():
            self.load(checkpoint.load(file))
        began = perf_counter()
        for inputs, targets in self._batches():
            self._train_step(inputs, targets)
            now = perf_counter()
            if self.step == self.total or now > min(deadline, began + CHECKPOINT_SECONDS):
                if self.device.type == "cuda":
                    torch.cuda.synchronize()  # so that the seconds are true
                self.seconds += perf_counter() - began
                checkpoint.save(file, self.state())
                if now > deadline:
                    return
                began = perf_counter()

    def _batches(self) -> Iterator[data.Batch]:
        while self.step < self.total:
            epoch, start = divmod(self.step, self.per_epoch)
            yield from self.data.train(self.settings.batch_size, self.settings.seed, epoch, start)

    def _train_step(self, inputs: Tensor, targets: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * self.rate(self.step)
        self.model.train()
        outputs = self._answer(self.model, inputs)
        loss = nn.functional.cross_entropy(outputs.float(), targets.to(self.device, non_blocking=True))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if self.step in capture_steps(self.plan):
            self.tickets.append(Ticket.of(self.model, self.sparsifier or DENSE))

    def judged(self, tickets: Sequence[Ticket]) -> dict[str, float]:
        """On the test split."""
        return judge(tickets, self._fresh(), self.data, self._answer, self.settings.spec.averaged)

    def _answer(self, model: nn.Module, inputs: Tensor) -> Tensor:
        with self._autocast():
            outputs: Tensor = model(inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True))
        return outputs

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.settings.precision == "bf16" else nullcontext()

    def state(self) -> dict[str, Any]:
        sparsifier = self.sparsifier.state_dict() if self.sparsifier else None
        parts = {"model": dict(self.model.state_dict()), "optimizer": self.optimizer.state_dict()}
        tickets = [packed(ticket) for ticket in self.tickets]
        return {"step": self.step, "seconds": self.seconds, **parts, "sparsifier": sparsifier, "tickets": tickets}

    def load(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.sparsifier:
            self.sparsifier.load_state_dict(state["sparsifier"])
        self.tickets = [unpacked(stored) for stored in state["tickets"]]

    def result(self) -> dict[str, Any]:
        """One line of results.jsonl."""
        sparsifier = self.sparsifier
        return {
            **asdict(self.settings),
            **self.judged(self.tickets),
            "exploration_rate": sparsifier.exploration_rate if sparsifier else 1.0,
            "density": sparsifier.density if sparsifier else 1.0,
            "topology_digest": sparsifier.topology.digest() if sparsifier else None,
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "device": device_name(self.device),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "commit": commit(),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    deadline = perf_counter() + 60 * options.minutes
    for cell in options.only or SUITES[options.suite].cells:
        settings = Settings(options.suite, cell, options.seed, options.data, options.precision, options.epochs)
        for member in settings.members():
            if not _finished(options.out, member) and not _run(member, options.out, deadline):
                return
        if not _finished(options.out, settings):
            _add(options.out, settings, _together(settings, options.out))


def _run(settings: Settings, out: Path, deadline: float) -> bool:
    """Go on with a run; whether it has reached its end, and its line is there."""
    run = Run(settings)
    run.train(out / f"{settings.name}.pt", deadline)
    if run.step < run.total:
        print(f"{settings.name}: step {run.step} of {run.total}, {run.seconds:.0f} s; call again to go on.", flush=True)
        return False
    _add(out, settings, run.result())
    return True


def _together(settings: Settings, out: Path) -> dict[str, Any]:
    """The runs of an ensemble as one, from their checkpoints."""
    states = [checkpoint.load(out / f"{member.name}.pt") for member in settings.members()]
    tickets = [unpacked(stored) for state in states for stored in state["tickets"]]
    run = Run(settings.members()[0])
    cost = {key: sum(state[key] for state in states) for key in ("seconds", "step")}
    return {**asdict(settings), **run.judged(tickets), "steps": cost["step"], "seconds": cost["seconds"]}


def _add(out: Path, settings: Settings, result: dict[str, Any]) -> None:
    atomic.append(out / "results.jsonl", json.dumps(result))
    print(f"{settings.name}: test {100 * result['test_accuracy']:.2f} %, NLL {result['test_nll']:.4f}", flush=True)


def _finished(out: Path, settings: Settings) -> bool:
    results = map(json.loads, atomic.lines(out / "results.jsonl"))
    return any(asdict(settings).items() <= result.items() for result in results)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", nargs="?", choices=tuple(SUITES), default="itop")
    parser.add_argument("--minutes", type=float, default=8.0, help="stop at a checkpoint after this long (default: 8)")
    parser.add_argument("--only", action="append", metavar="CELL", help="a cell of the suite; may repeat")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="autocast, or none")
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--data", default="cifar100", help="any data set's name (default: cifar100)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="checkpoints and results.jsonl")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
