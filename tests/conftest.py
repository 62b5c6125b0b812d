"""One thread and a fixed seed for every test; whatever a test changes of them ends with it."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import forkserver
from unittest import mock

import pytest
import torch


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def children() -> None:
    """Processes of tests are forked by one server, that has imported what they need: torch once, not 200 times."""
    ours = ["regrow.train.loop", "regrow.sparsifier", "regrow.lab.subject", "regrow.lab.suite"]
    multiprocessing.set_forkserver_preload(["pytest", "torch._dynamo", "regrow.train.fabric", *ours])
    # Threads that spin while they wait take a hundred times longer on a busy machine.
    with mock.patch.dict(os.environ, OMP_WAIT_POLICY="passive"):
        forkserver.ensure_running()
