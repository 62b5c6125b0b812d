"""Two gloo processes under torchrun decide alike, with nothing of ours broadcast; ranks that disagree are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from regrow.tickets import Ticket
from regrow.train import record
from regrow.train.paths import RunFolder

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two ranks ran `ddp_child.py`."""
    root = tmp_path_factory.mktemp("ddp")
    child = Path(__file__).with_name("ddp_child.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(child)]
    done = subprocess.run(
        [*launcher, str(root)], capture_output=True, text=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture(scope="module")
def ranks(folder: Path) -> tuple[Seen, Seen]:
    """What each rank noted."""
    return json.loads((folder / "rank0.json").read_text()), json.loads((folder / "rank1.json").read_text())


def test_both_ranks_end_alike(ranks: tuple[Seen, Seen]) -> None:
    assert ranks[0]["whole"] == ranks[1]["whole"]
    assert ranks[0]["whole"]["topology"] != ranks[0]["whole"]["start"], "the topology moves"


def test_only_batch_statistics_are_broadcast(ranks: tuple[Seen, Seen]) -> None:
    assert ranks[0]["broadcasts"] == [[], [16], [32]]


def test_both_ranks_return_the_record_that_rank_0_wrote(ranks: tuple[Seen, Seen], folder: Path) -> None:
    stored = RunFolder(folder / "whole")
    timeless = [{k: v for k, v in seen["result"].items() if not k.startswith("seconds")} for seen in ranks]
    assert timeless[0] == timeless[1]
    assert ranks[0]["result"] == record.read_json(stored.result)
    assert [row["step"] for row in record.rows(stored)] == [6, 12]
    assert record.read_json(stored.environment)["processes"] == 2
    assert (ranks[0]["told"], ranks[1]["told"]) == (12, 0)


def test_both_ranks_judge_the_same_tickets(ranks: tuple[Seen, Seen], folder: Path) -> None:
    timeless = [{k: v for k, v in seen["tickets"].items() if not k.startswith("seconds")} for seen in ranks]
    assert timeless[0] == timeless[1]
    assert [row["step"] for row in timeless[0]["tickets"]] == [9, 12]
    stored = RunFolder(folder / "tickets")
    assert stored.ticket(1).exists()
    assert Ticket.load(stored.superposed).topology.nnz == timeless[0]["superposed"]["nnz"]


def test_both_ranks_resume_bit_for_bit(ranks: tuple[Seen, Seen]) -> None:
    assert ranks[0]["resumed"] == ranks[0]["whole"]
    assert ranks[1]["resumed"] == ranks[1]["whole"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("other seed", "step 0: the ranks' topologies differ"),
        ("other batch size", "the settings differ between ranks"),
        ("other plan", "the plans differ between ranks"),
        ("other weights", "the initial weights differ between ranks"),
        ("other topology", "step 3: the ranks' topologies differ"),
    ],
)
def test_a_disagreement_is_refused_on_both_ranks(ranks: tuple[Seen, Seen], what: str, message: str) -> None:
    assert message in ranks[0][what]
    assert message in ranks[1][what]
