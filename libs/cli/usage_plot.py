"""Usage as charts for a terminal: a line an hour or day, from zero, with the figure at the end of each bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.text import Text

from libs.cli.usage_series import (
    Item,
    Span,
    Unit,
    held,
    in_order,
    label_of,
    over_time,
    ticks,
    unit_of_count,
    unit_of_time,
)

BAR_MIN: Final = 20
BAR_MAX: Final = 80
# A letter beside the colour, so that a pipe and a colour-blind reader see the same chart.
STYLES: Final[Mapping[str, tuple[str, str]]] = {
    "serving": ("█", "blue"),
    "loading": ("▓", "yellow"),
    "draining": ("▒", "cyan"),
    "idle_owned": ("░", "white"),
    "warm": ("~", "magenta"),
    "stranded": ("×", "red"),
    "tokens out": ("█", "blue"),
    "tokens in": ("▒", "cyan"),
}
TOKENS: Final = {"completion_tokens": "tokens out", "prompt_tokens": "tokens in"}


def plotted(items: Sequence[Item], span: Span, console: Console) -> RenderableType:
    """GPU time by what it was spent on, and tokens, over a time. ``items`` are grouped by interval and account."""
    gpu = over_time(held(items), span, lambda each: each["group"]["account"])
    tokens = over_time([each for each in items if each["meter"] in TOKENS], span, lambda each: TOKENS[each["meter"]])
    if not gpu and not tokens:
        return Text(f"nothing was used between {_time(span.from_ms)} and {_time(span.to_ms)} UTC")
    parts: list[RenderableType] = []
    if gpu:
        most = max(map(sum, zip(*gpu.values(), strict=True)))
        names = in_order(gpu)
        parts.append(_chart("GPU time by what it was spent on", gpu, names, span, unit_of_time(most), console.width))
    if tokens:
        most = max(map(sum, zip(*tokens.values(), strict=True)))
        names = [each for each in TOKENS.values() if each in tokens]
        parts.append(_chart("Tokens", tokens, names, span, unit_of_count(most, "tokens"), console.width))
    return Group(*parts)


def _chart(
    title: str, series: Mapping[str, Sequence[int]], names: Sequence[str], span: Span, unit: Unit, width: int
) -> Text:
    labels = [label_of(start_ms, span.interval) for start_ms in span.starts_ms]
    edge, totals = max(map(len, labels)), [sum(each) for each in zip(*series.values(), strict=True)]
    say = unit.fixed if unit.name.startswith("GPU") else unit.of
    tail = max(len(say(total)) for total in totals)
    room = max(BAR_MIN, min(BAR_MAX, width - edge - tail - 5))
    marks = ticks(max(totals), unit)
    drawn = Text(f"{title}, {unit.name} per {span.interval} (UTC)\n", style="bold")
    for name in names:
        sign, colour = STYLES.get(name, ("█", "magenta"))
        drawn.append(f"{sign} {name.replace('_', ' ')}  ", style=colour)
    drawn.append("\n")
    for index, label in enumerate(labels):
        drawn.append(f"{label:>{edge}} │", style="default")
        used = 0
        ends = [round(part * room / marks[-1]) for part in _cumulated([series[name][index] for name in names])]
        for name, end in zip(names, ends, strict=True):
            sign, colour = STYLES.get(name, ("█", "magenta"))
            drawn.append(sign * (end - used), style=colour)
            used = max(used, end)
        drawn.append(f" {say(totals[index]) if totals[index] else '·'}\n")
    return drawn.append(_axis(marks, unit, edge, room))


def _cumulated(values: Sequence[int]) -> list[int]:
    return [sum(values[: index + 1]) for index in range(len(values))]


def _axis(marks: Sequence[int], unit: Unit, edge: int, room: int) -> str:
    """The axis under the bars, with round marks from zero."""
    places = [round(mark * room / marks[-1]) for mark in marks]
    line = "".join("┴" if column in places[1:] else "─" for column in range(1, room + 1))
    words = [" "] * (room + 16)
    for mark, place in zip(marks, places, strict=True):
        text = unit.of(mark)
        begin = max(0, place - len(text) // 2)
        if all(each == " " for each in words[max(0, begin - 1) : begin + len(text) + 1]):
            words[begin : begin + len(text)] = text
    return f"{' ' * edge} └{line}\n{' ' * (edge + 2)}{''.join(words).rstrip()}\n"


def _time(at_ms: int) -> str:
    return label_of(at_ms, "hour")
