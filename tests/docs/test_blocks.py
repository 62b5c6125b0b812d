"""Every Python block of the README and the docs runs, in order, in one namespace a page.

What a page does not define is the reader's own: `model`, `optimizer`, `loader`, `loss_fn`, `steps`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from blocks import ROOT, Block, blocks, pages
from torch import nn
from torch.nn.functional import cross_entropy

import regrow

PAGES = [page for page in pages() if any(not block.skipped for block in blocks(page))]
SKIPPED = [block for page in pages() for block in blocks(page) if block.skipped]


def readers_own() -> dict[str, Any]:
    """A network and data of milliseconds, under the names that the docs use."""
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
    loader = [(torch.randn(30, 64), torch.arange(30) % 10) for _ in range(4)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return {
        "regrow": regrow,
        "torch": torch,
        "nn": nn,
        "model": model,
        "optimizer": optimizer,
        "loader": loader,
        "loss_fn": cross_entropy,
        "steps": 200,
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__", **readers_own()}
    with mock.patch.dict(regrow.METHODS):  # a page may add one
        for block in blocks(page):
            if not block.skipped:
                code = "\n" * (block.line - 1) + block.code  # a traceback names the page and its line
                exec(compile(code, str(ROOT / page), "exec"), namespace)


@pytest.mark.parametrize("block", [pytest.param(b, id=f"{b.page}:{b.line}") for b in SKIPPED])
def test_a_block_is_skipped(block: Block) -> None:
    pytest.skip(block.skipped or "")
