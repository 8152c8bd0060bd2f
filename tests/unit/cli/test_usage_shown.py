"""Charts and pages of usage: every figure that the API told, axes that tell the truth, no name that breaks them."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from libs.cli.usage_charts import NAME_MAX, shortened
from libs.cli.usage_page import Usage, page
from libs.cli.usage_plot import plotted
from libs.cli.usage_series import (
    Unit,
    largest,
    moment_ms,
    money,
    over_time,
    quantity_of,
    span_of,
    ticks,
    unit_of_count,
    unit_of_time,
)
from libs.common.errors import Invalid
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.unit.cli import usage_samples as samples
from tests.unit.cli.usage_samples import T0

ALL = (samples.ordinary, samples.fleet, samples.small, samples.nothing, samples.long_names)
VOID = frozenset({"meta", "line", "rect", "br"})


class Page(HTMLParser):
    """What a browser makes of a page: its tags, closed as they were opened, its words and its tables' cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.parametrize("sample", ALL, ids=lambda each: str(each.__name__))
def test_a_page_is_whole_and_needs_nothing_else(sample: object) -> None:
    assert callable(sample)
    text = page(sample())

    found = Page(text)

    assert found.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not [value for name, value in found.attributes if name in ("src", "href")]
    assert "url(" not in text
    assert "@import" not in text
    assert ("lang", "en") in found.attributes


def test_a_page_has_each_chart_beside_a_table_of_its_figures() -> None:
    found = Page(page(samples.ordinary()))

    assert found.tags.count("svg") == found.tags.count("table") == 3
    assert "Where GPU time went, GPU-hours per hour" in found.words
    assert [each for each in found.words if each.startswith("Cost by")] == ["Cost by endpoint"]
    labels = [value or "" for name, value in found.attributes if name == "aria-label"]
    assert all("the table beside it has all figures" in each for each in labels)


def test_a_fleets_page_tells_its_tenants_apart_and_leaves_no_endpoint_out() -> None:
    text = page(samples.fleet())

    assert "Usage of the fleet" in text
    assert "Cost by tenant" in text
    assert "6 others" in text  # 17 endpoints, of which 11 have a bar of their own.


def test_without_prices_a_page_says_so_and_shows_time() -> None:
    text = page(samples.ordinary(priced=False))

    assert "No price book is set" in text
    assert "GPU time by endpoint" in text
    assert "USD" not in text


def test_an_empty_page_says_that_nothing_was_used() -> None:
    found = Page(page(samples.nothing()))

    assert "Nothing was used" in found.words
    assert "svg" not in found.tags


def test_a_name_is_never_read_as_html_and_its_whole_is_in_the_table() -> None:
    text = page(samples.long_names())

    assert "<b>" not in text
    assert samples.LONG[3].replace("<", "&lt;").replace(">", "&gt;") in text
    assert f"{samples.LONG[1]}/{samples.LONG[2]}" in text


def test_the_columns_of_a_chart_add_up_to_its_table() -> None:
    used = samples.ordinary()
    text = page(used)

    total_ms = sum(each["quantity"] for each in used.over_time["items"] if each["meter"] == "gpu_ms")
    heights = [float(each) for each in re.findall(r'<rect class="bar" [^>]*height="([\d.]+)"', text.split("</svg>")[0])]
    marks = ticks(max(per_hour(used)), Unit("GPU-hours", HOUR_MS))
    assert sum(heights) / (300 - 30 - 48) * marks[-1] == pytest.approx(total_ms, rel=0.01)
    assert f"<td>{total_ms / HOUR_MS:,.2f}</td></tr></tfoot>" in text


def per_hour(used: Usage) -> list[int]:
    gpu = [each for each in used.over_time["items"] if each["meter"] == "gpu_ms"]
    values = over_time(gpu, used.span, lambda each: str(each["group"]["account"]))
    return [sum(each) for each in zip(*values.values(), strict=True)]


@pytest.mark.parametrize("sample", ALL, ids=lambda each: str(each.__name__))
@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_chart_fits_and_begins_at_zero(sample: object, width: int) -> None:
    assert callable(sample)
    used: Usage = sample()
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)

    console.print(plotted(used.over_time["items"], used.span, console))

    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    if used.over_time["items"]:
        bars = [each for each in lines if "│" in each]
        assert len(bars) % len(used.span.starts_ms) == 0  # Every hour or day has its line, also an empty one.
        axis = next(lines[index + 1] for index, each in enumerate(lines) if "└" in each)
        assert axis.split()[0] == "0"


def test_a_bar_is_as_long_as_its_figure_on_the_axis() -> None:
    items = [
        {"group": {"hour": iso, "account": "serving"}, "meter": "gpu_ms", "quantity": quantity}
        for iso, quantity in (("2026-11-28T00:00:00Z", 4 * HOUR_MS), ("2026-11-28T02:00:00Z", HOUR_MS))
    ]
    console = Console(width=80, record=True, file=io.StringIO())

    console.print(plotted(items, span_of(T0, T0 + 3 * HOUR_MS), console))

    lines = console.export_text().splitlines()
    lengths = [line.count("█") for line in lines if "│" in line]
    assert abs(lengths[0] - 4 * lengths[2]) <= 2  # Rounded to whole characters.
    assert lengths[2] > 0
    assert lengths[1] == 0


@pytest.mark.parametrize(
    ("most", "unit", "last"),
    [(85_400, Unit("s", 1000), 100_000), (1, Unit("tokens", 1), 1), (7, Unit("tokens", 1), 8), (0, Unit("x", 1), 1)],
)
def test_marks_are_round_and_hold_the_largest(most: int, unit: Unit, last: int) -> None:
    marks = ticks(most, unit)

    assert (marks[0], marks[-1]) == (0, last)
    assert len(marks) <= 6
    assert len({b - a for a, b in pairwise(marks)}) == 1


def test_units_suit_the_size() -> None:
    assert [unit_of_time(each).name for each in (90_000, 10 * MINUTE_MS, 5 * HOUR_MS)] == [
        "GPU-seconds",
        "GPU-minutes",
        "GPU-hours",
    ]
    assert [unit_of_count(each, "tokens").name for each in (9_999, 10_000, 10_000_000)] == [
        "tokens",
        "thousand tokens",
        "million tokens",
    ]


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.00 USD"),
        (1_278_923_456_789, "1,278.92 USD"),
        (59_000_000, "0.059 USD"),
        (123_456, "0.00012 USD"),
        (-2_500_000_000, "-2.50 USD"),
    ],
)
def test_money_reads_as_money(nano: int, text: str) -> None:
    assert money(nano, "USD") == text


def test_what_has_no_bar_of_its_own_is_in_the_last_one() -> None:
    assert largest({"a": 1, "b": 5, "c": 3, "d": 2}, 3) == [("b", 5), ("c", 3), ("2 others", 3)]


def test_a_long_name_keeps_both_its_ends() -> None:
    short = shortened("abcdefgh" * 10)

    assert len(short) == NAME_MAX
    assert (short[:3], short[-3:]) == ("abc", "fgh")


def test_times_are_read_as_people_write_them() -> None:
    assert moment_ms("2026-11-28T01:00:00+01:00", now_ms=0) == T0
    assert moment_ms(str(T0), now_ms=0) == T0
    assert moment_ms("24h", now_ms=T0) == T0 - DAY_MS
    for wrong in ("2026-11-28T00:00:00", "soon", "24x", ""):
        with pytest.raises(Invalid, match="a time is like"):
            moment_ms(wrong, now_ms=0)


def test_a_span_is_of_whole_hours_or_days_and_fits_a_chart() -> None:
    span = span_of(T0 + 5, T0 + HOUR_MS + 5)
    month = span_of(T0 - 30 * DAY_MS + 5, T0)

    assert (span.interval, span.from_ms, len(span.starts_ms)) == ("hour", T0, 2)
    assert (month.interval, len(month.starts_ms)) == ("day", 30)
    with pytest.raises(Invalid, match="--from before --to"):
        span_of(T0, T0)
    with pytest.raises(Invalid, match="400 at most"):
        span_of(0, T0)


@pytest.mark.parametrize(
    ("meter", "quantity", "said"),
    [
        ("volume_mib_ms", 200 * 1024 * 12 * HOUR_MS, "2,400.0 GiB·h"),
        ("cache_mib_ms", 15 * 1024 * HOUR_MS, "15.0 GiB·h"),
        ("volume_mib_ms", -512 * HOUR_MS, "-0.5 GiB·h"),
        ("adapter_ms", 3 * HOUR_MS, "3 h 0 min"),
        ("gpu_ms", -90_000, "-1 min 30 s"),
        ("prompt_tokens", 1_234_567, "1,234,567"),
    ],
)
def test_a_quantity_is_said_in_the_unit_that_people_think_in(meter: str, quantity: int, said: str) -> None:
    assert quantity_of(meter, quantity) == said
