"""What every verb shares: --debug, one red paragraph for a refusal, a word on how to go on after Ctrl-C."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from regrow.core.errors import RegrowError

REFUSED = 2
INTERRUPTED = 130


def say(text: str, style: str = "") -> None:
    """One paragraph to the error stream, on one line where there is no terminal; square brackets are text."""
    console = Console(stderr=True)
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """`function` with a --debug option: a refusal is one paragraph and exit code 2, or the traceback."""

    @functools.wraps(function)
    def wrapped(*, debug: bool, **arguments: Any) -> None:
        try:
            function(**arguments)
        except RegrowError as error:
            if debug:
                raise
            say(f"regrow: {error}", style="red")
            raise typer.Exit(REFUSED) from None
        except (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            if debug:
                raise
            say(f"regrow: {error.filename}: {error.strerror}. Check the path, and that it may be written.", style="red")
            raise typer.Exit(REFUSED) from None
        except KeyboardInterrupt:
            say("\nstopped. What was done is kept: the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from None

    option = Annotated[bool, typer.Option("--debug", help="Show the traceback of a refusal.")]
    signature = inspect.signature(function, eval_str=True)
    extra = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), extra])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*signature.parameters.values(), extra]}
    return wrapped
