"""The table of verbs."""

from __future__ import annotations

import typer

from regrow.cli.bench import bench
from regrow.cli.compare import compare
from regrow.cli.demo import demo
from regrow.cli.evaluate import evaluate
from regrow.cli.export import export
from regrow.cli.lottery import lottery
from regrow.cli.plan import plan
from regrow.cli.report import report
from regrow.cli.results import results
from regrow.cli.resume import resume
from regrow.cli.run import run
from regrow.cli.show import show
from regrow.cli.suite import suite
from regrow.cli.tickets import tickets
from regrow.cli.verb import verb

app = typer.Typer(
    name="regrow",
    help="Train neural networks that are sparse from the first step to the last.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_verbs = (demo, plan, run, resume, show, evaluate, compare, report, bench, tickets, export, lottery, suite, results)
for _command in _verbs:
    app.command()(verb(_command))
