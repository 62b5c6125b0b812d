"""The verbs and flags that people's scripts use, and how quickly help comes."""

from __future__ import annotations

import resource
import subprocess
import sys

import typer

from regrow.cli.app import app

FLAGS = {
    "compare": {"RUNS", "--json"},
    "demo": {"--runs"},
    "evaluate": {
        *("RUNS", "--ood", "--corruptions", "--adversarial", "--analyses", "--split", "--passes", "--together"),
        *("--json", "--data-root"),
    },
    "export": {"PATH", "--to", "--out", "--fold", "--data-root"},
    "lottery": {
        *("RECIPE", "--densities", "--rewind", "--epoch", "--layers", "--set", "--seeds", "--runs", "--data-root"),
    },
    "plan": {
        *("RECIPE", "--set", "--target-rs", "--budget", "--minutes", "--no-calibration", "--json"),
    },
    "report": {"RUNS", "--out"},
    "results": {"--ledger", "--to"},
    "resume": {"RUN", "--data-root", "--log"},
    "run": {"RECIPE", "--set", "--seeds", "--jobs", "--runs", "--data-root", "--log"},
    "show": {"WHAT"},
    "suite": {"SOURCE", "--workers", "--engine", "--dry-run", "--ledger", "--runs", "--data-root"},
    "tickets": {"PATHS", "--json"},
}
OTHERS = {"bench"}  # frozen by their own tests


def test_the_flags_are_these() -> None:
    """Adding one is a decision: change this list with it."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {
        name: {
            flag if flag.startswith("-") else flag.upper()
            for p in command.params
            for flag in p.opts
            if p.name != "help"
        }
        for name, command in commands.items()
        if name not in OTHERS
    }
    assert found == {name: flags | {"--debug"} for name, flags in FLAGS.items()}


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys\nsys.argv = ['regrow', '--help']\nimport atexit\n" + (
        "atexit.register(lambda: print('torch' in sys.modules))\nfrom regrow.cli import main; main()"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert done.stdout.rstrip().endswith("False")
    for verb in FLAGS:
        assert f" {verb} " in done.stdout
