"""regrow bench: its table, its verdicts, its flags."""

from __future__ import annotations

import pytest
import typer

from cli.conftest import Call
from regrow.cli.app import app
from regrow.cli.bench import told, verdicts
from regrow.lab.bench import Bench, Row
from regrow.lab.paired import Ratio
from regrow.lab.subject import Setting, Way

pytestmark = pytest.mark.usefixtures("children")


def test_the_flags_are_these() -> None:
    """Adding one is a decision: change this list with it."""
    command = typer.main.get_command(app).commands["bench"]  # type: ignore[attr-defined]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    ours = {"--model", "--shape", "--batch", "--sparsity", "--method", "--samples", "--threads"}
    assert flags - {"--help", "-h"} == ours | {"--debug"}


def test_all_ways_side_by_side(call: Call) -> None:
    done = call("bench", "--model", "lenet300", "--shape", "1,8,8", "--batch", 16, "--sparsity", "0.9", "--threads", 1)
    assert done.exit_code == 0, done.output
    for word in (
        "dense ",
        "bf16 autocast",
        "masked, 0.9",
        "sparse, 0.9",
        "sparse, 0.9, bf16 autocast",
        "ms/step",
        "s/epoch",
        "times as fast",
        "peak MB",
    ):
        assert word in done.stdout
    assert "rigl every 100 steps" in done.stdout


def row(way: Way, seconds: float) -> Row:
    return Row(way, seconds, None, Ratio(seconds, 0.9 * seconds, 1.1 * seconds), 1.0, None)


def test_it_says_where_dense_is_faster() -> None:
    rows = [row(Way(), 1.0), row(Way(bf16=True), 0.5), row(Way("sparse", 0.9), 2.0), row(Way("sparse", 0.95), 0.8)]
    lines = verdicts(Bench(Setting("mlp", (1, 8, 8), 8), 10, rows, [], ""))
    assert lines == [
        "Dense is faster than sparse, 0.9.",
        "Dense in bf16 is faster than sparse, 0.95, which computes in fp32.",
    ]
    assert told("sparse, 0.9", []) == ["In sparse, 0.9, nothing runs dense and nothing breaks the layout."]
    assert told("sparse, 0.9", ["one"] * 10)[-1] == "  ... and 2 more"


def test_refusals(call: Call) -> None:
    for words, said in [
        (["--sparsity", "1.5"], "--sparsity 1.5: should be numbers in [0, 1)"),
        (["--shape", "1x28"], "--shape 1x28: should be numbers of at least 1"),
        (["--model", "mpl"], "did you mean 'mlp'?"),
        (["--method", "rigle"], "did you mean 'rigl'?"),
        (["--model", "torch.nn:Flatten"], "made a Flatten without weights"),
        (["--model", "torch.nn:Linear"], "names a function without arguments"),
        (["--threads", "100000"], "this machine has"),
    ]:
        refusal = call("bench", *words)
        assert refusal.exit_code == 2
        assert said in refusal.stderr
