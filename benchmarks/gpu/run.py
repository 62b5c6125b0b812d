"""ITOP's CIFAR-100 ResNet-34, dense and at 90, 95 and 98 % sparsity, in pieces of a few minutes. See README.md.

Needs torch, numpy, Pillow and the data; of regrow only what imports nothing more.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from regrow.core.errors import choose
from regrow.core.rng import seed_of
from regrow.sparsifier import Sparsifier, sparsify
from regrow.train import atomic, checkpoint, data, models
from regrow.train.surroundings import commit, device_name

DENSITIES = {"dense": None, "rigl-itop-90": 0.10, "rigl-itop-95": 0.05, "rigl-itop-98": 0.02}
UPDATES = 97_750 / 4000  # the paper's run and interval at batch 128; a shorter run keeps the number of updates
CHECKPOINT_SECONDS = 240


@dataclass(frozen=True)
class Settings:
    """What decides a result. Liu et al. 2021, arXiv:2102.02887: 250 epochs, lr .1 x .1 at 1/2 and 3/4, Nesterov."""

    cell: str
    seed: int
    data: str
    precision: str
    epochs: int
    model: str = "resnet34"
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4


class Run:
    """One run under way, on the fastest device there is."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.deterministic = True  # a continued run repeats the uninterrupted one
        self.data = data.load(settings.data, validation=0.0)
        self.per_epoch = self.data.steps(settings.batch_size)
        self.total = settings.epochs * self.per_epoch
        torch.manual_seed(seed_of("model", settings.seed))
        self.model = models.build(settings.model, self.data.shape, self.data.classes).to(self.device)
        lr, momentum, decay = settings.lr, settings.momentum, settings.weight_decay
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr, momentum, weight_decay=decay, nesterov=True)
        self.sparsifier = self._sparsifier(DENSITIES[settings.cell])
        self.step, self.seconds = 0, 0.0

    def _sparsifier(self, density: float | None) -> Sparsifier | None:
        if density is None:
            return None
        return sparsify(
            self.model,
            self.optimizer,
            method="rigl-itop",
            density=density,
            total_steps=self.total,
            every=max(1, round(self.total / UPDATES)),
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
        drops = sum(self.step >= share * self.total for share in (0.5, 0.75))
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * 0.1**drops
        self.model.train()
        with self._autocast():
            outputs = self.model(self._placed(inputs))
        loss = nn.functional.cross_entropy(outputs.float(), targets.to(self.device, non_blocking=True))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    @torch.no_grad()
    def test(self) -> float:
        """Accuracy in [0, 1] on the test split."""
        self.model.eval()
        right = samples = 0
        for inputs, targets in self.data.evaluate("test"):
            with self._autocast():
                predicted = self.model(self._placed(inputs)).argmax(-1).cpu()
            right, samples = right + int((predicted == targets).sum()), samples + len(targets)
        return right / samples

    def _placed(self, inputs: Tensor) -> Tensor:
        return inputs.to(self.device, memory_format=torch.channels_last, non_blocking=True)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.settings.precision == "bf16" else nullcontext()

    def state(self) -> dict[str, Any]:
        sparsifier = self.sparsifier.state_dict() if self.sparsifier else None
        parts = {"model": dict(self.model.state_dict()), "optimizer": self.optimizer.state_dict()}
        return {"step": self.step, "seconds": self.seconds, **parts, "sparsifier": sparsifier}

    def load(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.sparsifier:
            self.sparsifier.load_state_dict(state["sparsifier"])

    def result(self) -> dict[str, Any]:
        """One line of results.jsonl."""
        sparsifier = self.sparsifier
        return {
            **asdict(self.settings),
            "test_accuracy": self.test(),
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
    for cell in options.only or DENSITIES:
        choose(DENSITIES, cell, "cell")
        settings = Settings(cell, options.seed, options.data, options.precision, options.epochs)
        if _finished(options.out, settings):
            continue
        name = f"{cell}-{options.precision}-{options.epochs}-seed{options.seed}"
        run = Run(settings)
        run.train(options.out / f"{name}.pt", deadline)
        if run.step < run.total:
            print(f"{name}: step {run.step} of {run.total}, {run.seconds:.0f} s; call again to go on.", flush=True)
            return
        result = run.result()
        atomic.append(options.out / "results.jsonl", json.dumps(result))
        print(f"{name}: test {100 * result['test_accuracy']:.2f} %, R_s {result['exploration_rate']:.3f}", flush=True)


def _finished(out: Path, settings: Settings) -> bool:
    results = map(json.loads, atomic.lines(out / "results.jsonl"))
    return any(asdict(settings).items() <= result.items() for result in results)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="stop at a checkpoint after this long (default: 8)")
    parser.add_argument("--only", action="append", metavar="CELL", help=f"one of {', '.join(DENSITIES)}; may repeat")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="autocast, or none")
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--data", default="cifar100", help="any data set's name (default: cifar100)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="checkpoints and results.jsonl")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
