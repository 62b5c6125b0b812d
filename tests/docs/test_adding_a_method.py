"""The method that docs/adding-a-method.md adds passes the contract, asked as the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from blocks import ROOT, blocks

FAST = ["test_budgets_and_zeros", "test_resume_loop"]


def test_the_contract_takes_it(tmp_path: Path) -> None:
    (tmp_path / "my_method.py").write_text(next(blocks("docs/adding-a-method.md")).code)
    command = [sys.executable, "-m", "pytest", "-p", "my_method", "-k", "curious", "-m", "not full"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    paths = [f"tests/contract/{name}.py" for name in FAST]
    done = subprocess.run([*command, *paths], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
