"""`millrace top`: what happened between two looks."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from libs.cli.credentials import Credentials
from libs.cli.output import Output
from libs.cli.top import NOTHING, drawn, loads, quantile, watch
from libs.common.errors import MillraceError
from tests.support.ports import free_port

BOUNDS = [0.01, 0.1, 1.0]


def spread(*counts: int) -> dict[str, Any]:
    return {"bounds_s": BOUNDS, "counts": list(counts), "sum_s": 0.0}


def an_endpoint(name: str, **fields: object) -> dict[str, Any]:
    return {
        "endpoint_id": f"ep-{name}", "name": name, "tenant_id": "acme", "project_id": "p", "model": "m", "tier": "t",
        "region": "eu-1", "replicas": 2, "outstanding": 1, "in_flight": 1,
        "waiting": 0, "finishes": {}, "prompt_tokens": 0,
        "cached_tokens": 0, "completion_tokens": 0, "first_token": spread(0, 0, 0, 0),
        "per_token": spread(0, 0, 0, 0), "queue": spread(0, 0, 0, 0), "duration": spread(0, 0, 0, 0), **fields,
    }  # fmt: skip


def a_board(now_ms: int, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {"instance": "router-0", "now_ms": now_ms, "endpoints": list(endpoints)}


BEFORE = a_board(1_000, an_endpoint("busy", completion_tokens=100, finishes={"stop": 10}), an_endpoint("idle"))
BUSY = an_endpoint(
    "busy", completion_tokens=300, prompt_tokens=40, cached_tokens=10, finishes={"stop": 14, "upstream_error": 2},
    first_token=spread(0, 10, 0, 0),
)  # fmt: skip
AFTER = a_board(3_000, an_endpoint("idle", in_flight=0), BUSY, an_endpoint("new", completion_tokens=2, in_flight=0))


def test_the_busiest_comes_first_with_its_rates() -> None:
    busy, new, idle = loads(BEFORE, AFTER)

    assert (busy.name, new.name, idle.name) == ("busy", "new", "idle")
    assert (busy.requests_per_s, busy.errors_per_s, busy.tokens_per_s) == (3.0, 1.0, 100.0)
    assert busy.cached_share == 0.25
    assert busy.ttft_p50_ms == 55.0
    assert (idle.tokens_per_s, idle.ttft_p50_ms, idle.cached_share) == (0.0, None, None)


def test_a_router_that_started_anew_is_not_read_as_negative() -> None:
    [load] = loads(a_board(1_000, BUSY), a_board(2_000, an_endpoint("busy", completion_tokens=1)))

    assert load.tokens_per_s == 0.0


@pytest.mark.parametrize(
    ("counts", "share", "ms"),
    [([0, 0, 0, 0], 0.5, None), ([10, 0, 0, 0], 0.5, 5.0), ([0, 0, 0, 9], 0.95, 1000.0), ([9, 1, 0, 0], 0.95, 55.0)],
)
def test_a_quantile_is_drawn_within_its_bucket(counts: list[int], share: float, ms: float | None) -> None:
    assert quantile(counts, BOUNDS, share) == ms


def rendered(width: int, *, is_wide: bool) -> list[str]:
    drawing = Console(width=width, color_system=None)
    with drawing.capture() as said:
        drawing.print(drawn(loads(BEFORE, AFTER), is_wide=is_wide))
    return said.get().splitlines()


def test_the_table_fits_a_terminal_and_leaves_out_what_there_was_none_of() -> None:
    head, busy, *_, idle = rendered(120, is_wide=True)

    assert head.split()[:2] == ["ENDPOINT", "TENANT"]
    assert "100.0" in busy
    assert "55 ms" in busy
    assert idle.count(NOTHING) == 8
    assert all("…" not in line for line in (head, busy, idle))


def test_a_narrow_terminal_has_what_matters_most() -> None:
    head, busy, *_ = rendered(80, is_wide=False)

    assert head.split() == [
        "ENDPOINT",
        "REPL",
        "LIVE",
        "WAIT",
        "REQ/S",
        "TOK/S",
        "TTFT",
        "P50",
        "TTFT",
        "P95",
        "MS/TOK",
    ]
    assert "100.0" in busy


def test_without_an_endpoint_it_says_what_to_do() -> None:
    assert "endpoints create" in str(drawn([], is_wide=True))


def test_without_a_router_it_says_so_in_one_line() -> None:
    with pytest.raises(MillraceError, match="MILLRACE_ROUTER_ADMIN_URL"):
        watch(Credentials("http://x"), interval_s=0.2, once=True, output=Output.TABLE)
    nowhere = Credentials("http://x", router_admin_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(MillraceError, match="is it up"):
        watch(nowhere, interval_s=0.2, once=True, output=Output.TABLE)
