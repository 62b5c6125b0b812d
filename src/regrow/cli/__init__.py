"""`regrow`: one file per verb. Nothing heavy is imported before a verb needs it, so that --help is quick."""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from regrow.cli.app import app

    app()
