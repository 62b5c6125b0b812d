"""regrow lottery: tickets that start runs, drawn once."""

from __future__ import annotations

from pathlib import Path

from cli.conftest import Call

SMALL = ("--set", "epochs=2", "--set", "model.hidden=[16]", "--set", "batch_size=128", "--densities", "0.5,0.2")


def test_draw_and_start(call: Call, tmp_path: Path) -> None:
    first = call("lottery", "smoke/dense", *SMALL, "--rewind", "initial")
    assert first.exit_code == 0, first.output
    (ticket,) = tmp_path.glob("runs/smoke-*-lottery-*/seed_0/tickets/1.safetensors")
    assert "79.98" in first.stdout  # 237 of 1184
    assert "round_1" in first.stderr
    again = call("lottery", "smoke/dense", *SMALL, "--rewind", "initial")
    assert again.stdout == first.stdout
    assert "round" not in again.stderr
    run = call("run", "smoke/dense", *SMALL[:-2], "--set", "method=static", "--set", f"topology={ticket}")
    assert run.exit_code == 0, run.output


def test_refusals(call: Call) -> None:
    for words, message in (
        (("--densities", "0.5,0.7"), "falls, below 1"),
        (("--densities", "0.5,x"), "--densities 0.5,x: should be numbers"),
        (("--densities", "0.5", "--epoch", "99"), "rewind to an earlier one"),
    ):
        found = call("lottery", "smoke/dense", *words)
        assert found.exit_code == 2
        assert message in found.stderr
