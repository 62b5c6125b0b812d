"""benchmarks/gpu runs on a bare machine, without pydantic, typer, yaml or Lightning, and continues bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHILD = """
import runpy, sys
for name in ("pydantic", "typer", "yaml", "lightning", "lightning_fabric", "pytorch_lightning", "sklearn", "rich"):
    sys.modules[name] = None
main = runpy.run_path(sys.argv[1])["main"]
out = sys.argv[2]
common = ["--only", "rigl-itop-98", "--data", "synthetic:3x8x8x100", "--epochs", "1", "--precision", "fp32", "--out"]
main([*common, out + "/pieces", "--minutes", "0"])
main([*common, out + "/pieces"])
main([*common, out + "/pieces"])
main([*common, out + "/whole"])
"""


def test_steps_and_continues_on_a_bare_machine(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(ROOT / "benchmarks" / "gpu" / "run.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "step 1 of 4" in done.stdout
    (pieces,), (whole,) = (
        [json.loads(line) for line in (tmp_path / name / "results.jsonl").read_text().splitlines()]
        for name in ("pieces", "whole")
    )
    same = pieces.keys() - {"seconds", "commit"}
    assert {key: pieces[key] for key in same} == {key: whole[key] for key in same}
    assert pieces["steps"] == 4
    assert pieces["exploration_rate"] > pieces["density"]
    assert pieces["precision"] == "fp32"
    assert pieces["device"] == "cpu"
