"""How the command speaks: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from libs.common.errors import MillraceError

P = ParamSpec("P")
R = TypeVar("R")

console: Final = Console()
EXIT_FAILED: Final = 1


class Output(StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"


OUTPUT: Final = typer.Option(Output.TABLE, "--output", "-o", help="table for people, json for programs.")


def show(output: Output, value: object, table: Callable[[], Table | str]) -> None:
    """Print a value as JSON, or as the table made from it."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        console.print(table())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """A plain table; numbers to the right."""
    rows = [list(each) for each in rows]
    drawn = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for index, column in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        drawn.add_column(column.upper(), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(f"{each:,}" if isinstance(each, int) else str(each) for each in row))
    return drawn


def duration(elapsed_ms: int) -> str:
    """A duration for reading: ``840 ms``, ``3.2 s``, ``4 min 10 s``."""
    if elapsed_ms < 1000:
        return f"{elapsed_ms} ms"
    if elapsed_ms < 60_000:
        return f"{elapsed_ms / 1000:.1f} s"
    minutes, seconds = divmod(round(elapsed_ms / 1000), 60)
    return f"{minutes} min {seconds} s"


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """End with exit code 1 and one line on standard error when a command raises an error of ours."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except MillraceError as trouble:
            sys.stderr.write(f"millrace: {trouble}\n")
            raise typer.Exit(EXIT_FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return wrapped
