"""`millrace top`: what happened between two looks."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import httpx
import pytest
from rich.console import Console

from libs.cli.credentials import Credentials
from libs.cli.output import Output
from libs.cli.top import NOTHING, boards_of, drawn, loads, quantile, watch
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


def a_board(now_ms: int, *endpoints: dict[str, Any], instance: str = "router-0") -> dict[str, Any]:
    return {"instance": instance, "now_ms": now_ms, "endpoints": list(endpoints), "others": []}


BEFORE = a_board(1_000, an_endpoint("busy", completion_tokens=100, finishes={"stop": 10}), an_endpoint("idle"))
BUSY = an_endpoint(
    "busy", completion_tokens=300, prompt_tokens=40, cached_tokens=10, finishes={"stop": 14, "upstream_error": 2},
    first_token=spread(0, 10, 0, 0),
)  # fmt: skip
AFTER = a_board(3_000, an_endpoint("idle", in_flight=0), BUSY, an_endpoint("new", completion_tokens=2, in_flight=0))


def test_the_busiest_comes_first_with_its_rates() -> None:
    busy, new, idle = loads([BEFORE], [AFTER])

    assert (busy.name, new.name, idle.name) == ("busy", "new", "idle")
    assert (busy.requests_per_s, busy.errors_per_s, busy.tokens_per_s) == (3.0, 1.0, 100.0)
    assert busy.cached_share == 0.25
    assert busy.ttft_p50_ms == 55.0
    assert (idle.tokens_per_s, idle.ttft_p50_ms, idle.cached_share) == (0.0, None, None)


def test_a_router_that_started_anew_is_not_read_as_negative() -> None:
    [load] = loads([a_board(1_000, BUSY)], [a_board(2_000, an_endpoint("busy", completion_tokens=1))])

    assert load.tokens_per_s == 0.0


def test_what_several_workers_did_adds_up_and_who_is_new_or_gone_is_no_traffic() -> None:
    def of(worker: str, now_ms: int, tokens: int) -> dict[str, Any]:
        served = an_endpoint(
            "busy", completion_tokens=tokens, finishes={worker: tokens}, first_token=spread(tokens, 0, 0, 0)
        )
        return a_board(now_ms, served, instance=worker)

    [busy] = loads(
        [of("w0", 1_000, 10), of("w1", 1_000, 0), of("died", 1_000, 7)],
        [of("w0", 2_000, 15), of("w1", 2_000, 3), of("new", 2_000, 100)],
    )

    assert (busy.tokens_per_s, busy.requests_per_s, busy.ttft_p50_ms) == (8.0, 8.0, 5.0)
    assert (busy.replicas, busy.in_flight) == (2, 2)
    assert loads([of("died", 1_000, 7)], [of("new", 2_000, 1)]) == []


@pytest.mark.parametrize(
    ("counts", "share", "ms"),
    [([0, 0, 0, 0], 0.5, None), ([10, 0, 0, 0], 0.5, 5.0), ([0, 0, 0, 9], 0.95, 1000.0), ([9, 1, 0, 0], 0.95, 55.0)],
)
def test_a_quantile_is_drawn_within_its_bucket(counts: list[int], share: float, ms: float | None) -> None:
    assert quantile(counts, BOUNDS, share) == ms


def rendered(width: int, *, is_wide: bool) -> list[str]:
    drawing = Console(width=width, color_system=None)
    with drawing.capture() as said:
        drawing.print(drawn(loads([BEFORE], [AFTER]), is_wide=is_wide))
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


def test_every_worker_that_answers_is_asked() -> None:
    at = {8704: a_board(1_000, BUSY) | {"others": [8804, 8904]}, 8904: a_board(1_000, BUSY, instance="router-0-w2")}

    def answer(request: httpx.Request) -> httpx.Response:
        found = at.get(request.url.port or 0)
        return httpx.Response(503) if found is None else httpx.Response(200, json=found)

    with httpx.Client(transport=httpx.MockTransport(answer)) as web:
        found = boards_of(web, Credentials("http://x", router_admin_url="http://127.0.0.1:8704"))

    assert [each["instance"] for each in found] == ["router-0", "router-0-w2"]


class Router(BaseHTTPRequestHandler):
    """Answers so many looks, then no more."""

    looks: ClassVar[int] = 3

    def do_GET(self) -> None:
        type(self).looks -= 1
        self.send_response(200 if self.looks >= 0 else 503)
        self.end_headers()
        self.wfile.write(json.dumps(a_board(9_000 - 1_000 * self.looks, BUSY) | {"others": []}).encode())


def test_into_a_pipe_it_writes_every_page(capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), Router) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        credentials = Credentials("http://x", router_admin_url=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MillraceError, match="is it up"):
            watch(credentials, interval_s=0.01, once=False, output=Output.TABLE)
        server.shutdown()
        thread.join(30)

    assert capsys.readouterr().out.count("1 endpoints") == 2


def test_without_an_endpoint_it_says_what_to_do() -> None:
    assert "endpoints create" in str(drawn([], is_wide=True))


def test_without_a_router_it_says_so_in_one_line() -> None:
    with pytest.raises(MillraceError, match="MILLRACE_ROUTER_ADMIN_URL"):
        watch(Credentials("http://x"), interval_s=0.2, once=True, output=Output.TABLE)
    nowhere = Credentials("http://x", router_admin_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(MillraceError, match="is it up"):
        watch(nowhere, interval_s=0.2, once=True, output=Output.TABLE)
