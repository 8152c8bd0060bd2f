"""`millrace top`: what the router serves right now, endpoint by endpoint, from two looks at its totals."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import httpx
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from libs.cli.credentials import Credentials
from libs.cli.output import Output, console, table
from libs.common.errors import MillraceError

Json = dict[str, Any]

TIMEOUT_S: Final = 10.0
PAGE: Final = "/endpoints"
NOTHING: Final = "–"  # Nothing of the kind happened in the interval.
COLUMNS: Final = (
    "endpoint", "tenant", "model", "repl", "live", "wait", "req/s", "err/s", "tok/s", "queue p95", "ttft p50",
    "ttft p95", "ms/tok", "cached",
)  # fmt: skip
EXTRA: Final = frozenset({"tenant", "model", "queue p95", "cached", "err/s"})
WIDE: Final = 110  # Columns of a terminal, from which all of it has room.
SPREADS: Final = ("first_token", "per_token", "queue")
COUNTED: Final = ("in_flight", "waiting", "prompt_tokens", "cached_tokens", "completion_tokens")
WELL: Final = ("stop", "length", "client_disconnect", "key_revoked")


@dataclass(frozen=True, slots=True)
class Load:
    """One endpoint over one interval. None: nothing to measure it by."""

    endpoint_id: str
    name: str
    tenant_id: str
    model: str
    tier: str
    region: str
    replicas: int
    in_flight: int
    waiting: int
    requests_per_s: float
    errors_per_s: float
    tokens_per_s: float
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    queue_p95_ms: float | None
    per_token_ms: float | None
    cached_share: float | None


def loads(first: Sequence[Json], then: Sequence[Json]) -> list[Load]:
    """What happened between two looks at the boards of one router's workers, the busiest endpoint first.

    A worker that was there at one of them only has just died, or has just begun.
    """
    both = {each["instance"] for each in first} & {each["instance"] for each in then}
    before, after = ([each for each in boards if each["instance"] in both] for boards in (first, then))
    return _between(_summed(before), _summed(after)) if both else []


def _summed(boards: Sequence[Json]) -> Json:
    """One board of all: what workers counted adds up, the replicas are the same ones."""
    endpoints: dict[str, Json] = {}
    for each in (endpoint for board in boards for endpoint in board["endpoints"]):
        known = endpoints.get(each["endpoint_id"])
        endpoints[each["endpoint_id"]] = each if known is None else _added(known, each)
    return {"now_ms": boards[0]["now_ms"], "endpoints": list(endpoints.values())}


def _added(one: Json, other: Json) -> Json:
    finishes = {
        key: one["finishes"].get(key, 0) + other["finishes"].get(key, 0) for key in one["finishes"] | other["finishes"]
    }
    spreads = {
        name: {**one[name], "counts": [a + b for a, b in zip(one[name]["counts"], other[name]["counts"], strict=True)]}
        for name in SPREADS
    }
    return {**one, **{name: one[name] + other[name] for name in COUNTED}, **spreads, "finishes": finishes}


def _between(before: Json, after: Json) -> list[Load]:
    lasted_s = max(1, after["now_ms"] - before["now_ms"]) / 1000
    known = {each["endpoint_id"]: each for each in before["endpoints"]}
    found = [_load(known.get(each["endpoint_id"]), each, lasted_s) for each in after["endpoints"]]
    return sorted(found, key=lambda each: (-each.tokens_per_s, -each.requests_per_s, -each.in_flight, each.name))


def _load(old: Json | None, new: Json, lasted_s: float) -> Load:
    def grown(name: str) -> int:
        return max(0, int(new[name]) - int(old[name] if old else 0))

    finished = {key: count - (old["finishes"].get(key, 0) if old else 0) for key, count in new["finishes"].items()}
    ttft, queue, per_token = (_grown(old, new, name) for name in ("first_token", "queue", "per_token"))
    prompt = grown("prompt_tokens")
    return Load(
        **{name: new[name] for name in ("endpoint_id", "name", "tenant_id", "model", "tier", "region")},
        replicas=new["replicas"],
        in_flight=new["in_flight"],
        waiting=new["waiting"],
        requests_per_s=sum(finished.values()) / lasted_s,
        errors_per_s=sum(count for key, count in finished.items() if key not in WELL) / lasted_s,
        tokens_per_s=grown("completion_tokens") / lasted_s,
        ttft_p50_ms=quantile(ttft, new["first_token"]["bounds_s"], 0.5),
        ttft_p95_ms=quantile(ttft, new["first_token"]["bounds_s"], 0.95),
        queue_p95_ms=quantile(queue, new["queue"]["bounds_s"], 0.95),
        per_token_ms=quantile(per_token, new["per_token"]["bounds_s"], 0.5),
        cached_share=grown("cached_tokens") / prompt if prompt else None,
    )


def _grown(old: Json | None, new: Json, name: str) -> list[int]:
    before = old[name]["counts"] if old else [0] * len(new[name]["counts"])
    return [max(0, a - b) for a, b in zip(new[name]["counts"], before, strict=True)]


def quantile(counts: Sequence[int], bounds_s: Sequence[float], share: float) -> float | None:
    """Below how many ms this share of the values lay, drawn straight within its bucket; the last bound at most."""
    wanted = sum(counts) * share
    if not wanted:
        return None
    passed = 0
    low_s = 0.0
    for count, high_s in zip(counts, bounds_s, strict=False):
        if passed + count >= wanted:
            return round((low_s + (high_s - low_s) * (wanted - passed) / count) * 1000, 1)
        passed, low_s = passed + count, high_s
    return bounds_s[-1] * 1000


def drawn(found: Sequence[Load], *, is_wide: bool) -> Table | str:
    """The table; where there is little room, without what matters least."""
    if not found:
        return "no endpoint is routed; `millrace endpoints create` makes one"
    rows = [
        (
            each.name, each.tenant_id, each.model, each.replicas, each.in_flight, each.waiting,
            _rate(each.requests_per_s),
            _rate(each.errors_per_s), _rate(each.tokens_per_s), _ms(each.queue_p95_ms), _ms(each.ttft_p50_ms),
            _ms(each.ttft_p95_ms), _ms(each.per_token_ms),
            NOTHING if each.cached_share is None else f"{each.cached_share:.0%}",
        )
        for each in found
    ]  # fmt: skip
    shown = [index for index, column in enumerate(COLUMNS) if is_wide or column not in EXTRA]
    columns = [COLUMNS[index] for index in shown]
    return table(columns, [[row[index] for index in shown] for row in rows], whole=("endpoint",), right=COLUMNS[3:])


def _rate(per_s: float) -> str:
    return f"{per_s:,.1f}" if per_s else NOTHING


def _ms(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def watch(credentials: Credentials, *, interval_s: float, once: bool, output: Output) -> None:
    """Look again and again; a table or a line of JSON for each interval. Raises MillraceError if no router answers."""
    with httpx.Client(timeout=TIMEOUT_S) as web:
        before = boards_of(web, credentials)
        if output is Output.JSON:
            while True:
                before = _said(web, credentials, before, interval_s)
                if once:
                    return
        if once:
            time.sleep(interval_s)
            found = loads(before, boards_of(web, credentials))
            console.print(drawn(found, is_wide=console.width >= WIDE))
            return
        pages = _pages(web, credentials, before, interval_s)
        if not console.is_terminal:  # Into a file or a pipe a `Live` writes one page: the last, when it ends.
            for page in pages:
                console.print(page)
            return
        with Live(console=console, auto_refresh=False, screen=True) as live:
            for page in pages:
                live.update(page, refresh=True)


def _pages(web: httpx.Client, credentials: Credentials, before: list[Json], interval_s: float) -> Iterator[Group]:
    while True:
        time.sleep(interval_s)
        after = boards_of(web, credentials)
        yield _page(loads(before, after), after, interval_s)
        before = after


def _said(web: httpx.Client, credentials: Credentials, before: list[Json], interval_s: float) -> list[Json]:
    time.sleep(interval_s)
    after = boards_of(web, credentials)
    sys.stdout.write(json.dumps([asdict(each) for each in loads(before, after)]) + "\n")
    sys.stdout.flush()
    return after


def _page(found: Sequence[Load], boards: Sequence[Json], interval_s: float) -> Group:
    tokens = sum(each.tokens_per_s for each in found)
    requests = sum(each.requests_per_s for each in found)
    flying = sum(each.in_flight for each in found)
    workers = f" ({len(boards)} workers)" if boards[0]["others"] else ""
    line = (
        f"{boards[0]['instance']}{workers}   {len(found)} endpoints   {flying:,} in flight   {requests:,.1f} req/s   "
        f"{tokens:,.0f} tok/s   every {interval_s:g} s, Ctrl-C ends"
    )
    return Group(Text(line, style="bold"), Text(""), drawn(found, is_wide=console.width >= WIDE))


def boards_of(web: httpx.Client, credentials: Credentials) -> list[Json]:
    """Of every worker that answers; the first one has to."""
    if not credentials.router_admin_url:
        raise MillraceError("top asks the router's admin port: set MILLRACE_ROUTER_ADMIN_URL to where that is")
    url = httpx.URL(credentials.router_admin_url)
    try:
        boards = [_board(web, url)]
    except (httpx.HTTPError, ValueError) as trouble:
        raise MillraceError(f"no router answers at {url} ({type(trouble).__name__}): is it up?") from None
    for port in boards[0].get("others", ()):
        with contextlib.suppress(httpx.HTTPError, ValueError):  # It died, and will be there again.
            boards.append(_board(web, url.copy_with(port=port)))
    return boards


def _board(web: httpx.Client, url: httpx.URL) -> Json:
    found: Json = web.get(f"{url}{PAGE}").raise_for_status().json()
    return found
