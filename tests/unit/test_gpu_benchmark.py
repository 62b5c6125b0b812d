"""benchmarks/gpu runs on a bare machine, without pydantic, typer, yaml or Lightning, and continues bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHILD = """
import sys
for name in ("pydantic", "typer", "yaml", "lightning", "lightning_fabric", "pytorch_lightning", "sklearn", "rich",
             "safetensors"):
    sys.modules[name] = None
from benchmarks.gpu.run import main
out = sys.argv[1]
common = ["--only", "rigl-itop-98", "--data", "synthetic:3x8x8x100", "--epochs", "1", "--precision", "fp32", "--out"]
main([*common, out + "/pieces", "--minutes", "0"])
main([*common, out + "/pieces"])
main([*common, out + "/pieces"])
main([*common, out + "/whole"])
tickets = ["tickets", *common[2:], out + "/tickets"]
main([*tickets, "--only", "edst-90", "--minutes", "0"])
main([*tickets, "--only", "edst-90", "--only", "dst-80", "--only", "rigl-sup-90"])
"""


def test_steps_and_continues_on_a_bare_machine(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path)],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
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
    lines = [json.loads(line) for line in (tmp_path / "tickets" / "results.jsonl").read_text().splitlines()]
    assert [(line["cell"], line["seed"]) for line in lines] == [
        ("edst-90", 0),
        *(("rigl-80", seed) for seed in range(3)),
        ("dst-80", 0),
        ("rigl-sup-90", 0),
    ]
    edst, dst, sup = lines[0], lines[4], lines[5]
    assert edst["steps"] == 8  # 2 and three times 1 + 1, of 4
    assert dst["ticket_1_nll"] == lines[2]["test_nll"], "a member of DST is the run of its seed"
    assert dst["steps"] == sum(line["steps"] for line in lines[1:4])
    assert {"superposed_accuracy", "ticket_2_ece", "test_nll"} <= sup.keys()
