"""The Python client: what it repeats, what it gives up on, and how it reads a stream that breaks."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from libs.client.millrace import Millrace
from libs.client.transport import PATIENCE_S, TRIES_MAX, Refused, Transport, Unreachable
from libs.client.watching import events, frames
from libs.common.errors import Invalid

Answer = Callable[[httpx.Request], httpx.Response]
BUSY = {"code": "unavailable", "detail": "later", "retryable": True}


class Server:
    """Answers in the order given, and remembers what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.each_takes_s = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def transport(self) -> Transport:
        http = httpx.Client(transport=httpx.MockTransport(self))
        return Transport("http://api", "mr_test", http=http, pause=self.pauses.append, clock=self._now_s)

    def _now_s(self) -> float:
        return len(self.asked) * self.each_takes_s


def test_a_change_that_got_no_answer_is_asked_again_as_the_same_request() -> None:
    server = Server(httpx.ReadTimeout("gone"), httpx.Response(202, json={"id": "op-1"}))

    assert server.transport.call("POST", "/v1/endpoints", body={"name": "chat"}) == {"id": "op-1"}

    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.content == second.content


def test_two_changes_are_two_requests() -> None:
    server = Server(httpx.Response(202, json={}), httpx.Response(202, json={}))
    transport = server.transport
    transport.call("POST", "/v1/keys")
    transport.call("POST", "/v1/keys")

    assert len({each.headers["idempotency-key"] for each in server.asked}) == 2


def test_what_may_succeed_later_is_asked_again_when_the_service_says() -> None:
    server = Server(
        httpx.Response(503, json=BUSY, headers={"retry-after": "3"}), httpx.Response(200, json={"items": []})
    )

    assert server.transport.call("GET", "/v1/keys") == {"items": []}
    assert server.pauses == [3.0]


def test_a_refusal_for_good_is_not_repeated() -> None:
    server = Server(httpx.Response(409, json={"code": "name_taken", "detail": "taken", "retryable": False}))

    with pytest.raises(Refused) as refusal:
        server.transport.call("POST", "/v1/endpoints")

    assert (refusal.value.status, refusal.value.code) == (409, "name_taken")
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["", ".", "..", "../tenants", "hello/scale", "/"])
def test_a_name_never_leads_to_another_path(name: str) -> None:
    server = Server()
    api = Millrace("http://api", "mr_test", http=httpx.Client(transport=httpx.MockTransport(server)))

    with pytest.raises(Invalid, match="is no name or id"):
        api.endpoints.delete(name)

    assert server.asked == []


def test_an_odd_name_is_asked_for_as_it_is() -> None:
    server = Server(httpx.Response(200, json={}))
    api = Millrace("http://api", "mr_test", http=httpx.Client(transport=httpx.MockTransport(server)))

    api.endpoints.get("a b?c=d#e%2Fü\udcff")

    assert server.asked[0].url.raw_path == b"/v1/endpoints/a%20b%3Fc%3Dd%23e%252F%C3%BC%FF"


def test_nobody_there_is_said_at_once_but_a_restart_is_waited_for() -> None:
    nobody, answer = httpx.ConnectError("refused"), httpx.Response(200, json={"id": "ep-1"})
    server = Server(nobody, answer, nobody, nobody, answer)
    transport = server.transport

    with pytest.raises(Unreachable):
        transport.call("GET", "/v1/endpoints/hello")
    assert server.pauses == []

    transport.call("GET", "/v1/endpoints/hello")
    assert transport.call("GET", "/v1/endpoints/hello") == {"id": "ep-1"}
    assert len(server.pauses) == 2


def test_a_service_that_hangs_is_given_up_within_a_minute_or_so() -> None:
    server = Server(*(httpx.ReadTimeout("hangs") for _ in range(TRIES_MAX)))
    server.each_takes_s = PATIENCE_S / 2

    with pytest.raises(Unreachable):
        server.transport.call("GET", "/v1/endpoints")

    assert len(server.asked) == 2


def test_patience_ends() -> None:
    server = Server(*(httpx.Response(503, json=BUSY) for _ in range(TRIES_MAX)))

    with pytest.raises(Refused):
        server.transport.call("GET", "/v1/keys")
    assert len(server.asked) == TRIES_MAX
    assert server.pauses == sorted(server.pauses)


def test_where_nobody_listens_is_said_at_once() -> None:
    server = Server(httpx.ConnectError("refused"))

    with pytest.raises(Unreachable, match="can't be reached"):
        server.transport.call("GET", "/v1/keys")
    assert len(server.asked) == 1


def test_a_stream_that_breaks_goes_on_behind_the_last_event() -> None:
    def part(first: int, count: int) -> httpx.Response:
        text = "".join(
            f'id: {n}\nevent: endpoint.stage_changed\ndata: {{"n": {n}}}\n\n' for n in range(first, first + count)
        )
        return httpx.Response(200, text=f": hello\n\n{text}", headers={"content-type": "text/event-stream"})

    server = Server(part(1, 2), httpx.ReadError("cut"), part(3, 1), httpx.Response(410, json={"code": "too_old"}))
    read = events(server.transport, "/v1/watch", pause=server.pauses.append)

    assert [next(read)["data"]["n"] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(Refused):
        next(read)
    assert [each.headers.get("last-event-id") for each in server.asked] == [None, "2", "2", "3"]


def test_an_event_in_several_lines_is_one_and_comments_are_none() -> None:
    lines = [": keep-alive", "", "id: 7", "data: {", 'data: "a": 1}', "", "event: x", "data: plain", "", "data"]

    assert list(frames(iter(lines))) == [
        {"id": "7", "event": "message", "data": {"a": 1}},
        {"id": "7", "event": "x", "data": "plain"},
    ]
