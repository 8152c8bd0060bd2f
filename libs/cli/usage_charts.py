"""Charts as inline SVG: bars that begin at zero, a marked axis with its unit, every figure as a tooltip, no script.

Colours are those of the page (`--c-<name>`), so that a chart is right in the light and in the dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from libs.cli.usage_series import Span, Unit, day_of, label_of, ticks

WIDTH: Final = 600
HEIGHT: Final = 300
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 30, 48  # Room for the marks around a chart.
COLUMN_MAX: Final = 52.0  # A single hour is a column too, not a wall.
ROW: Final = 48  # A name, and its bar below it: also on a phone, where letters are as wide again.
NAME_MAX: Final = 44  # Characters above a bar; the table has all of them.
BAR: Final = 18
VALUE: Final = 110  # Room for a figure behind the longest bar.
LABELS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a chart: `name` as people read it, `colour` as the page calls it."""

    name: str
    colour: str


def columns(title: str, parts: Sequence[Part], values: Mapping[str, Sequence[int]], span: Span, unit: Unit) -> str:
    """Stacked columns over time, the first part at the bottom."""
    starts = span.starts_ms
    totals = [sum(each) for each in zip(*values.values(), strict=True)]
    marks = ticks(max(totals), unit)
    step, inner = (WIDTH - LEFT - RIGHT) / len(starts), HEIGHT - TOP - BOTTOM
    width = min(step * 0.8, COLUMN_MAX)
    drawn = [_grid(marks, unit, inner)]
    for index, start_ms in enumerate(starts):
        x, below = LEFT + (index + 0.5) * step - width / 2, 0
        for part in parts:
            quantity = values[part.name][index]
            if not quantity:
                continue
            y, height = _height(below, quantity, marks[-1], inner)
            below += quantity
            said = f"{label_of(start_ms, span.interval)} UTC, {part.name}: {unit.of(quantity)} {unit.name}"
            drawn.append(_bar(x, y, width, height, part.colour, said))
    drawn.append(_time_axis(span, step))
    return _svg(title, WIDTH, HEIGHT, drawn)


def bars(title: str, parts: Sequence[Part], rows: Sequence[tuple[str, Sequence[int]]], say: Unit) -> str:
    """A horizontal bar a name, its parts from the left, its figure at its end."""
    most = max(sum(values) for _, values in rows)
    marks = ticks(most, say)
    room, below = WIDTH - VALUE, ROW * len(rows)
    drawn = [f'<text class="unit" x="0" y="{below + 40}">{escape(say.name)}</text>']
    for mark in marks:
        x, anchor = room * mark / marks[-1], "middle" if mark else "start"
        drawn.append(f'<line class="grid" x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{below + 4}"/>')
        drawn.append(f'<text class="mark" x="{x:.1f}" y="{below + 20}" text-anchor="{anchor}">{say.of(mark)}</text>')
    for row, (name, values) in enumerate(rows):
        y, x = ROW * row + 22, 0.0
        drawn.append(
            f'<text class="name" x="0" y="{y - 5}">{escape(shortened(name))}<title>{escape(name)}</title></text>'
        )
        for part, quantity in zip(parts, values, strict=True):
            width = room * quantity / marks[-1]
            if quantity:
                said = f"{name}, {part.name}: {say.of(quantity)} {say.name}"
                drawn.append(_bar(x, y, width, BAR, part.colour, said))
            x += width
        drawn.append(f'<text class="value" x="{x + 7:.1f}" y="{y + 14}">{say.of(sum(values))}</text>')
    return _svg(title, WIDTH, below + 48, drawn)


def shortened(name: str) -> str:
    """A name that fits beside a bar: its two ends, as names differ there."""
    if len(name) <= NAME_MAX:
        return name
    half = (NAME_MAX - 1) // 2
    return f"{name[: NAME_MAX - 1 - half]}…{name[-half:]}"


def _height(below: int, quantity: int, most: int, inner: int) -> tuple[float, float]:
    """Where a part of a column begins, and how high it is; no part that is there is thinner than a hair."""
    height = max(inner * quantity / most, 0.6)
    return TOP + inner - inner * below / most - height, height


def _grid(marks: Sequence[int], unit: Unit, inner: int) -> str:
    lines = [f'<text class="unit" x="{LEFT}" y="{TOP - 16}">{escape(unit.name)}</text>']
    for mark in marks:
        y = TOP + inner - inner * mark / marks[-1]
        kind = "axis" if mark == 0 else "grid"
        lines.append(f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        lines.append(f'<text class="mark" x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{unit.of(mark)}</text>')
    return "".join(lines)


def _time_axis(span: Span, step: float) -> str:
    starts, y = span.starts_ms, HEIGHT - BOTTOM
    every = -(-len(starts) // LABELS_MAX)
    if span.interval == "hour":
        every = next(each for each in (1, 2, 3, 4, 6, 8, 12, 24) if each >= every or each == 24)
    lines, day = [], ""
    for index, start_ms in enumerate(starts):
        label = label_of(start_ms, span.interval)
        is_marked = index % every == 0 if span.interval == "day" else int(label[-5:-3]) % every == 0
        if not is_marked:
            continue
        x = LEFT + (index + 0.5) * step
        text = label if span.interval == "day" else label[-5:]
        lines.append(f'<text class="mark" x="{x:.1f}" y="{y + 18}" text-anchor="middle">{text}</text>')
        if span.interval == "hour" and day_of(start_ms) != day:
            day = day_of(start_ms)
            lines.append(f'<text class="unit" x="{x:.1f}" y="{y + 39}" text-anchor="middle">{day}</text>')
    if span.interval == "day":
        lines.append(f'<text class="unit" x="{LEFT}" y="{y + 39}">days of UTC</text>')
    return "".join(lines)


def _bar(x: float, y: float, width: float, height: float, colour: str, said: str) -> str:
    shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.6):.1f}" height="{height:.1f}"'
    return f'<rect class="bar" {shape} style="fill:var(--c-{colour})"><title>{escape(said)}</title></rect>'


def _svg(title: str, width: int, height: int, drawn: Sequence[str]) -> str:
    label = escape(f"{title}; the table beside it has all figures")
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'
