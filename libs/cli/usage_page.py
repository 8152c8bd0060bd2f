"""A usage report as one page of HTML that needs nothing else: charts beside the tables of their figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from libs.cli.output import duration
from libs.cli.usage_charts import Part, bars, columns
from libs.cli.usage_look import LOOK
from libs.cli.usage_series import (
    Item,
    Span,
    Unit,
    held,
    in_order,
    label_of,
    largest,
    meter_name,
    money,
    over_time,
    summed,
    time_of,
    unit_of_count,
    unit_of_time,
)
from libs.common.units import HOUR_MS

ROWS_MAX: Final = 12  # Bars of a chart; the others are one more, together.
MEANINGS: Final = (
    ("serving", "the endpoint was ready: this time earns"),
    ("loading", "from the request for capacity until ready"),
    ("draining", "ending: streams finish, or the endpoint failed"),
    ("idle owned", "streams have ended, the node is on its way back"),
    ("warm", "held ready for what comes next"),
    ("stranded", "held for nobody: time that is lost"),
)
TOKENS: Final = (("prompt_tokens", "tokens in"), ("completion_tokens", "tokens out"))
NAMES: Final = ' class="names"'  # A table whose first column may be long.
COLOURS: Final = {"tokens in": "draining", "tokens out": "serving"}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a page tells of: answers of the usage API by interval and account, and by what was used."""

    span: Span
    over_time: dict[str, Any]
    by_name: dict[str, Any]
    made_ms: int
    tenant: str = ""

    @property
    def tenants(self) -> list[str]:
        """Whose usage it is."""
        return sorted({each["group"]["tenant"] for each in self.by_name["items"]})

    @property
    def currency(self) -> str:
        """The currency of costs; empty without a price book."""
        return str((self.by_name.get("price_book") or {}).get("currency", ""))


def page(used: Usage) -> str:
    """The page."""
    whose = used.tenant or (used.tenants[0] if len(used.tenants) == 1 else "the fleet")
    items: Sequence[Item] = used.by_name["items"]
    body = (
        [_figures(used), *_time_chart(used), *_token_chart(items), *_worth_charts(used)]
        if items
        else ['<section class="none"><h2>Nothing was used</h2><p>The ledger has no usage in this time.</p></section>']
    )
    ends = f"{time_of(used.span.from_ms)} to {time_of(used.span.to_ms)} UTC"
    made = f"Made on {time_of(used.made_ms)} UTC from the ledger."
    if used.made_ms < used.span.to_ms:
        made += f" The last {used.span.interval} had not ended then."
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Usage of {escape(whose)}, {ends}</title><style>{LOOK}</style></head><body><main>"
        f'<header><p class="over">Millrace usage report</p><h1>Usage of {escape(whose)}</h1><p>{ends}</p></header>'
        f"{''.join(body)}<footer><p>{made} {_prices(used)}</p></footer></main></body></html>\n"
    )


def _prices(used: Usage) -> str:
    book = used.by_name.get("price_book")
    if not book:
        return "No price book is set, so nothing is said of money."
    free = sorted({_meter(each) for each in used.by_name["items"] if each["cost_nano"] is None and each["quantity"]})
    without = f" Without a price there, so in no cost: {escape(', '.join(free))}." if free else ""
    return f"Costs by price book {escape(book['id'])}; the invoice is the billing system’s.{without}"


def _meter(item: Item) -> str:
    account = item["group"]["account"].replace("_", " ")
    name = meter_name(item["meter"])
    return f"{name} time {account}" if account else name


def _figures(used: Usage) -> str:
    items = used.by_name["items"]
    gpu = summed(held(items), lambda each: each["group"]["account"])
    total_ms = sum(gpu.values())
    sums = summed(items, lambda each: each["meter"])
    shown = [("GPU time", _long(total_ms) if total_ms else "none")]
    if total_ms:
        shown.append(("of it serving", f"{100 * gpu.get('serving', 0) / total_ms:.0f} %"))
    shown += [(name, f"{sums.get(meter, 0):,}") for meter, name in (("requests", "requests"), *TOKENS)]
    if used.currency:
        shown.append(("cost", money(sum(each["cost_nano"] or 0 for each in items), used.currency)))
    return f'<dl class="figures">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown)}</dl>'


def _long(time_ms: int) -> str:
    """A time for reading; of hundreds of hours nobody wants the minutes."""
    return f"{(2 * time_ms + HOUR_MS) // (2 * HOUR_MS):,} h" if time_ms >= 100 * HOUR_MS else duration(time_ms)


def _time_chart(used: Usage) -> list[str]:
    values = over_time(
        held(used.over_time["items"]), used.span, lambda each: each["group"]["account"].replace("_", " ")
    )
    if not values:
        return []
    names = [each.replace("_", " ") for each in in_order(each.replace(" ", "_") for each in values)]
    parts = [Part(each, each.replace(" ", "-")) for each in names]
    unit = unit_of_time(max(map(sum, zip(*values.values(), strict=True))))
    title = f"Where GPU time went, {unit.name} per {used.span.interval}"
    rows = [
        (label_of(start_ms, used.span.interval), [values[name][index] for name in names])
        for index, start_ms in enumerate(used.span.starts_ms)
        if any(values[name][index] for name in names)
    ]
    meanings = "".join(f"<dt>{name}</dt><dd>{what}</dd>" for name, what in MEANINGS if name in names)
    note = f'<dl class="meanings">{meanings}</dl>'
    chart = columns(title, parts, values, used.span, unit)
    table = _table((f"{used.span.interval} (UTC)", *names, "all"), _added(rows), unit.fixed, kind="")
    return [_section(title, chart, table, parts, note)]


def _token_chart(items: Sequence[Item]) -> list[str]:
    by_model = {
        name: summed(held(items, meter), lambda each: each["group"]["model"] or "unknown model")
        for meter, name in TOKENS
    }
    models = {each for found in by_model.values() for each, quantity in found.items() if quantity}
    if not models:
        return []
    totals = {each: sum(found.get(each, 0) for found in by_model.values()) for each in models}
    kept = largest(totals, ROWS_MAX)
    named = {name for name, _ in kept}
    rows = [(name, [_part(found, name, named) for found in by_model.values()]) for name, _ in kept]
    unit = unit_of_count(max(totals.values()), "tokens")
    parts = [Part(name, COLOURS[name]) for _, name in TOKENS]
    table = _table(("model", *(name for _, name in TOKENS), "all"), _added(rows), lambda each: f"{each:,}")
    return [_section("Tokens by model", bars("Tokens by model", parts, rows, unit), table, parts)]


def _part(found: dict[str, int], name: str, named: set[str]) -> int:
    """Of a model, or of all those that have no bar of their own."""
    return found[name] if name in found else sum(each for other, each in found.items() if other not in named)


def _worth_charts(used: Usage) -> list[str]:
    """Cost by endpoint, and by tenant where there are several; GPU time instead where there are no prices."""
    drawn = []
    names: list[tuple[str, Callable[[Item], str]]] = []
    if len(used.tenants) > 1:
        names.append(("tenant", lambda each: str(each["group"]["tenant"])))
    names.append(("endpoint", lambda each: f"{each['group']['project']}/{each['group']['endpoint']}"))
    for what, name in names:
        drawn += _worth_chart(used, what, name)
    return drawn


def _worth_chart(used: Usage, what: str, name: Callable[[Item], str]) -> list[str]:
    items = used.by_name["items"]
    costs = summed(items, name, "cost_nano") if used.currency else {}
    if any(costs.values()):
        rows = largest(costs, ROWS_MAX)
        unit, title = Unit(used.currency, 1_000_000_000), f"Cost by {what}"
        say: Callable[[int], str] = lambda each: money(each, used.currency)  # noqa: E731 - one of two.
    else:
        held_ms = summed(held(items), name)
        if not any(held_ms.values()):
            return []
        rows = largest(held_ms, ROWS_MAX)
        unit, title, say = unit_of_time(max(held_ms.values())), f"GPU time by {what}", _long
    parts = [Part("cost" if title.startswith("Cost") else "GPU time", "serving")]
    listed: list[tuple[str, Sequence[int]]] = [(each, [quantity]) for each, quantity in rows]
    return [_section(title, bars(title, parts, listed, unit), _table((what, parts[0].name), listed, say), ())]


def _added(rows: Sequence[tuple[str, Sequence[int]]]) -> list[tuple[str, Sequence[int]]]:
    return [(name, [*values, sum(values)]) for name, values in rows]


def _table(
    names: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]], say: Callable[[int], str], kind: str = NAMES
) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_cell(each, say) for each in values)}</tr>'
        for name, values in rows
    )
    sums = [sum(each) for each in zip(*(values for _, values in rows), strict=True)]
    foot = "".join(f"<td>{say(each)}</td>" for each in sums)
    return (
        f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f'<tfoot><tr><th scope="row">all</th>{foot}</tr></tfoot></table>'
    )


def _cell(quantity: int, say: Callable[[int], str]) -> str:
    return f"<td>{say(quantity)}</td>" if quantity else '<td class="zero">0</td>'


def _section(title: str, chart: str, table: str, parts: Sequence[Part], note: str = "") -> str:
    legend = "".join(f'<li><i style="background:var(--c-{each.colour})"></i>{escape(each.name)}</li>' for each in parts)
    keys = f'<ul class="legend">{legend}</ul>' if legend else ""
    return (
        f'<section><h2>{escape(title)}</h2>{keys}<div class="pair"><div class="chart" tabindex="0">{chart}{note}</div>'
        f'<div class="figures-of" tabindex="0">{table}</div></div></section>'
    )
