"""How the command speaks: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Column, Table

from libs.cli.starting import EXIT_INTERRUPTED
from libs.client.transport import Unreachable
from libs.common.errors import MillraceError
from libs.common.units import HOUR_MS, MINUTE_MS, SECOND_MS

P = ParamSpec("P")
R = TypeVar("R")

WIDE: Final = 120  # Columns where there is no terminal to ask: a file, a pipe, a CI log.
GAP: Final = 2  # Between columns.
FOLDED: Final = 12  # Columns that a long word is still read in when it is broken.
EXIT_FAILED: Final = 1
EXIT_UNREACHABLE: Final = 3  # 2 is a wrong usage.
SIZES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))

console: Final = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE, highlight=False)


class Output(StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"


OUTPUT: Final = typer.Option(Output.TABLE, "--output", "-o", help="table for people, json for programs.")


def show(output: Output, value: object, table: Callable[[], RenderableType]) -> None:
    """Print a value as JSON, or as the table made from it."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return
    drawn = table()
    console.print(drawn, soft_wrap=isinstance(drawn, str))  # A key that is broken in two is no key.


class FittedTable(Table):
    """A table that breaks its long columns where there is little room, and leaves short words and ids whole."""

    whole: frozenset[int] = frozenset()  # Columns that stay whole before all others.

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, in as much room as there is now."""
        wanted = [_width(column, console) for column in self.columns]
        named = sum(max(width, cell_len(str(each.header))) for width, each in zip(wanted, self.columns, strict=True))
        if named + GAP * len(wanted) > options.max_width:
            least = [min(width, FOLDED, _word(column)) for width, column in zip(wanted, self.columns, strict=True)]
            widths = _widths(wanted, least, self.whole, options.max_width)
            for column, width in zip(self.columns, widths, strict=True):
                column.width = width
        yield from super().__rich_console__(console, options)


def _widths(wanted: Sequence[int], least: Sequence[int], whole: Collection[int], room: int) -> list[int | None]:
    """A width for each column that stays whole: the narrowest first, while each other is left the least it needs."""
    widths: list[int | None] = [None] * len(wanted)
    room -= GAP * len(wanted)
    order = sorted(range(len(wanted)), key=lambda index: (index not in whole, wanted[index]))
    for done, index in enumerate(order, start=1):
        room -= wanted[index]
        if room < sum(least[later] for later in order[done:]) and index not in whole:
            break
        widths[index] = wanted[index]
    return widths


def _width(column: Column, console: Console) -> int:
    """What its widest cell takes, or the longest word of its name."""
    cells = (console.measure(each).maximum for each in column.cells)
    return max((*cells, *map(cell_len, str(column.header).split()), 1))


def _word(column: Column) -> int:
    """The longest word in it: it is best broken between words."""
    words = (word for each in (column.header, *column.cells) for word in str(each).split())
    return max((*map(cell_len, words), 1))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Collection[str] = (),
    right: Collection[str] = (),
) -> Table:
    """A plain table; numbers and the columns in ``right`` to the right, those in ``whole`` the last to be broken."""
    rows = [list(each) for each in rows]
    drawn = FittedTable(header_style="bold", box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    drawn.whole = frozenset(index for index, column in enumerate(columns) if column in whole)
    for index, column in enumerate(columns):
        is_right = column in right or (bool(rows) and all(isinstance(row[index], int) for row in rows))
        drawn.add_column(column.upper(), justify="right" if is_right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(f"{each:,}" if isinstance(each, int) else escape(str(each)) for each in row))
    return drawn


def card(lines: Iterable[tuple[str, object]]) -> Table:
    """Names and values of one thing, a line each."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in lines:
        drawn.add_row(name, escape(str(value)))
    return drawn


def duration(elapsed_ms: int) -> str:
    """A duration for reading: ``840 ms``, ``3.2 s``, ``4 min 10 s``, ``3 h 5 min``."""
    if elapsed_ms < SECOND_MS:
        return f"{elapsed_ms} ms" if elapsed_ms else "0 s"
    if elapsed_ms < MINUTE_MS:
        return f"{elapsed_ms / SECOND_MS:.1f} s"
    if elapsed_ms < HOUR_MS:
        minutes, rest_ms = divmod(elapsed_ms, MINUTE_MS)
        return f"{minutes} min {rest_ms // SECOND_MS} s"
    hours, rest_ms = divmod(elapsed_ms, HOUR_MS)
    return f"{hours:,} h {rest_ms // MINUTE_MS} min"


def moment(rfc3339: str) -> str:
    """A time for reading: ``2026-11-23 21:08:08``, in UTC as everywhere."""
    return rfc3339[:19].replace("T", " ")


def amount(size_bytes: int) -> str:
    """A number of bytes for reading: ``64 MiB``, ``1.5 GiB``."""
    for unit_bytes, name in SIZES:
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.1f}".removesuffix(".0") + f" {name}"
    return f"{size_bytes} B"


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """End with exit code 1 and one line on standard error when a command raises an error of ours."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except MillraceError as trouble:
            sys.stderr.write(f"millrace: {' '.join(str(trouble).split())}\n")
            raise typer.Exit(EXIT_UNREACHABLE if isinstance(trouble, Unreachable) else EXIT_FAILED) from None
        except UnicodeEncodeError as trouble:
            odd = trouble.object[trouble.start : trouble.end]
            sys.stderr.write(f"millrace: {odd!a} can't be sent: text is UTF-8, and a key has letters of ASCII only\n")
            raise typer.Exit(EXIT_FAILED) from None
        except BrokenPipeError:
            raise  # Who reads has had enough, as `head` has; the framework ends in silence.
        except OSError as trouble:
            where = f"{trouble.filename}: " if trouble.filename else ""
            sys.stderr.write(f"millrace: {where}{trouble.strerror or trouble}\n")
            raise typer.Exit(EXIT_FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None

    return wrapped
