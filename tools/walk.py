"""A stranger's walk: from the built wheel, in an empty environment, outside the clone, to three sparse models.

    python tools/walk.py [--constraints constraints.txt] [--dist FOLDER] [-- PIP FLAGS]

Builds sdist and wheel, or takes those in FOLDER, about to be published; installs the wheel alone and runs a plain loop
and a recipe; adds Lightning and Hugging Face and runs their examples; installs the sdist with a compiler, and without.
Every step is timed; one that fails ends the walk.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHEEL_LIMIT = 950_000
"""Bytes (docs/adr/0014)."""
OPTIONAL = ("matplotlib", "optuna", "ray", "submitit", "onnx", "lightning", "transformers", "timm", "pytest")

LIGHT = """
import time, torch
begun = time.process_time()
import regrow; regrow.sparsify
print(f"{time.process_time() - begun:.2f} s of processor")
"""
ISA = "import torch; from regrow.execution import native; print(native.isa())"
SPARSE = """
import torch, regrow, warnings
warnings.simplefilter("ignore")  # without kernels it says so, once
model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 10))
optimizer = torch.optim.AdamW(model.parameters())
sparsifier = regrow.sparsify(model, optimizer, method="rigl", density=.1, total_steps=60, every=10, backend="sparse")
x, y = torch.randn(640, 64), torch.randint(10, (640,))
for _ in range(60):
    torch.nn.functional.cross_entropy(model(x), y).backward(); optimizer.step(); optimizer.zero_grad()
print(sparsifier.topology)
"""


@dataclass
class Walk:
    """An empty folder with an environment in it, and how long each step took.

    Args:
        home: the folder; nothing of the clone is in it.
        pip_flags: given to every installation.
    """

    home: Path
    pip_flags: list[str]
    steps: list[tuple[str, float, float, str]] = field(default_factory=list)
    """What, seconds, seconds of processor, the last line it said."""

    @property
    def python(self) -> str:
        return str(self.home / "env" / "bin" / "python")

    def step(self, what: str, *command: str, **environment: str) -> str:
        """Run it in the folder; its last line is what is told.

        Raises:
            SystemExit: it failed; its output is shown.
        """
        print(f"{what} ...", flush=True)
        begun, used = time.perf_counter(), _used()
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        done = subprocess.run(command, cwd=self.home, env=clean | environment, capture_output=True, text=True)
        seconds, used = time.perf_counter() - begun, _used() - used
        if done.returncode:
            raise SystemExit(f"{what}: failed after {seconds:.0f} s: {' '.join(command)}\n{done.stdout}{done.stderr}")
        last = (done.stdout.strip().splitlines() or [""])[-1]
        self.steps.append((what, seconds, used, last[:90]))
        return last

    def install(self, what: str, *packages: str, **environment: str) -> None:
        self.step(what, self.python, "-m", "pip", "install", "-q", *self.pip_flags, *packages, **environment)

    def example(self, what: str, name: str) -> None:
        """One of the clone's examples, copied: what a reader of it would do."""
        shutil.copy(ROOT / "examples" / name, self.home)
        self.step(what, self.python, name)

    def told(self) -> str:
        lines = [f"{seconds:7.1f}  {used:7.1f}  {what:<50} {last}".rstrip() for what, seconds, used, last in self.steps]
        return "\n".join(["seconds  processor", *lines])


def _used() -> float:
    """Seconds of processor of all children so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def walk(home: Path, dist: Path | None, pip_flags: list[str]) -> Walk:
    """All of it."""
    way = Walk(home, pip_flags)
    if dist is None:
        dist = home / "dist"
        way.step("build sdist and wheel", sys.executable, "-m", "build", "-o", str(dist), str(ROOT))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    size = wheel.stat().st_size
    if size >= WHEEL_LIMIT:
        raise SystemExit(f"{wheel.name} has {size} bytes; the limit is {WHEEL_LIMIT}")
    way.steps.append((f"the wheel: {wheel.name}", 0.0, 0.0, f"{size} bytes, limit {WHEEL_LIMIT}"))

    way.step("an empty environment", sys.executable, "-m", "venv", "env")
    way.install("install the wheel", str(wheel))
    if extra := way.step("nothing optional is in it", way.python, "-c", _lists(OPTIONAL)):
        raise SystemExit(f"the wheel alone installs {extra}")
    way.example("a plain loop", "plain_loop.py")
    way.step("import regrow, beyond torch (goal .3 s)", way.python, "-c", LIGHT)
    way.step("regrow --help (goal .4 s)", str(home / "env/bin/regrow"), "--help")
    way.step("a recipe that ships", str(home / "env/bin/regrow"), "run", "smoke/digits")

    way.install("add Lightning and Hugging Face", f"{wheel}[lightning,huggingface]")
    way.example("a Lightning model", "lightning_callback.py")
    way.example("a Hugging Face model", "huggingface_trainer.py")

    again = ("--force-reinstall", "--no-deps", str(sdist))
    way.install("install the sdist, with a compiler", *again)
    _check(way, "its kernels", compiled=True)
    way.install("install the sdist, without a compiler", *again, CC="false", CXX="false")
    _check(way, "no kernels: plain torch", compiled=False)
    way.example("a plain loop, without a compiler", "plain_loop.py")
    return way


def _check(way: Walk, what: str, compiled: bool) -> None:
    isa = way.step(what, way.python, "-W", "ignore", "-c", ISA)
    if (isa != "reference") is not compiled:
        raise SystemExit(f"{what}: kernels are {isa!r}")
    way.step(f"truly sparse training ({isa})", way.python, "-c", SPARSE)


def _lists(names: tuple[str, ...]) -> str:
    """Code that prints which of these are importable."""
    return f"from importlib.util import find_spec; print(*[n for n in {names!r} if find_spec(n)])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--dist", type=Path, help="a folder that holds one wheel and one sdist")
    parser.add_argument("pip_flags", nargs="*", help="for every pip install, after --")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regrow-walk-") as home:
        dist = asked.dist and asked.dist.resolve()
        done = walk(Path(home), dist, ["-c", str(asked.constraints.resolve()), *asked.pip_flags])
    print(done.told())


if __name__ == "__main__":
    main()
