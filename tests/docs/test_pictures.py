"""The pictures of the docs are those that their script draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from blocks import ROOT

PICTURES = ROOT / "docs" / "pictures"


def test_the_script_draws_what_is_there(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PICTURES / "draw.py", tmp_path], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PICTURES.glob("*.svg")}
    assert all(path.stat().st_size < 40_000 for path in PICTURES.glob("*.svg"))
