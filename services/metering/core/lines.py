"""Booked time as lines of the ledger: which lines stand for it, and which are taken back when it belongs elsewhere.

A line is taken back whole, by a line with the negative quantity that names it; what of it stays is booked anew. So what
a node has booked says exactly which lines of it stand: its spans, cut at the borders of windows and at their `cuts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from services.metering.core.timeline import Span, kind_of, part, without
from services.metering.core.windows import Windows


@dataclass(frozen=True, slots=True)
class Change:
    """What is booked after it, and each line that goes and comes, as a span of its own."""

    booked: tuple[Span, ...]
    back: tuple[Span, ...]
    new: tuple[Span, ...]


def changed(booked: Sequence[Span], wanted: Sequence[Span], windows: Windows, *, again: int) -> Change:
    """What makes ``booked`` cover what is ``wanted``; `again` counts how often a node's lines were taken back.

    New lines carry that count: with the time at which a line begins it names the line, also where one began before.
    """
    back: list[Span] = []
    kept: list[Span] = []
    for span in booked:
        gone = _lines_with(without((span,), wanted), span, windows)
        back += gone
        kept += without((span,), gone)
    came = [replace(each, again=again + bool(back), cuts=()) for each in without(wanted, kept)]
    new = (line for each in came for line in lines_of(each, windows))
    return Change(joined((*kept, *came), windows), tuple(back), tuple(new))


def lines_of(span: Span, windows: Windows) -> tuple[Span, ...]:
    """The lines that stand for a booked span."""
    begins = sorted({span.from_ms, *span.cuts})
    ends = [*begins[1:], span.to_ms]
    return tuple(
        part(span, first, last)
        for begin_ms, end_ms in zip(begins, ends, strict=True)
        for first, last in windows.cut(begin_ms, end_ms)
    )


def joined(parts: Iterable[Span], windows: Windows) -> tuple[Span, ...]:
    """The same lines with neighbours of one kind made one span, so that a record stays small."""
    found: list[Span] = []
    for each in sorted(parts, key=lambda span: span.from_ms):
        last = found[-1] if found else None
        if last and last.to_ms == each.from_ms and (kind_of(last), last.again) == (kind_of(each), each.again):
            border = () if windows.start_of(each.from_ms) == each.from_ms else (each.from_ms,)
            found[-1] = replace(last, to_ms=each.to_ms, cuts=(*last.cuts, *border, *each.cuts))
        else:
            found.append(each)
    return tuple(found)


def _lines_with(pieces: Iterable[Span], span: Span, windows: Windows) -> list[Span]:
    """The span's lines of which any piece has a part, each once."""
    found: dict[int, Span] = {}
    for piece in pieces:
        first, last = windows.start_of(piece.from_ms), windows.start_of(piece.to_ms - 1) + windows.size_ms
        around = part(span, max(first, span.from_ms), min(last, span.to_ms))
        for line in lines_of(around, windows):
            if line.from_ms < piece.to_ms and piece.from_ms < line.to_ms:
                found[line.from_ms] = line
    return [found[from_ms] for from_ms in sorted(found)]
