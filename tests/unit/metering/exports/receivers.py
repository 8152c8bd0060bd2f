"""Billing systems as small real HTTP servers, with their own rules and with faults on order."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final
from urllib.parse import parse_qsl

from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS
from tests.unit.metering.world import T0

TIMEOUT_S: Final = 0.4  # Of the clients in these tests.


class Fault(Enum):
    """What goes wrong with one call."""

    TIMEOUT_AFTER_ACCEPT = "takes it and never answers"
    CUT_AFTER_ACCEPT = "takes it and cuts the connection"
    CUT_BEFORE = "cuts the connection at once"
    BROKEN_BEFORE = "500 and takes nothing"
    BROKEN_AFTER_ACCEPT = "takes it and says 500"
    BUSY = "429 with Retry-After"
    GARBAGE_AFTER_ACCEPT = "takes it and answers with garbage"
    GARBAGE_BEFORE = "a proxy answers 200 with its own page"
    WRONG_KEY = "401"


TAKES: Final = frozenset(
    {Fault.TIMEOUT_AFTER_ACCEPT, Fault.CUT_AFTER_ACCEPT, Fault.BROKEN_AFTER_ACCEPT, Fault.GARBAGE_AFTER_ACCEPT}
)
ANSWERS: Final[Mapping[Fault, tuple[int, bytes]]] = {
    Fault.BROKEN_BEFORE: (500, b"oops"),
    Fault.BROKEN_AFTER_ACCEPT: (500, b"oops"),
    Fault.GARBAGE_AFTER_ACCEPT: (200, b"<html>\xff"),
    Fault.GARBAGE_BEFORE: (200, b"<html>\xff"),
    Fault.BUSY: (429, b"{}"),
    Fault.WRONG_KEY: (401, b"{}"),
}
Answer = tuple[int, object]
Place = tuple[str, int]


class Billing:
    """A receiver: what it accepted by id, and what that sums up to by code and start of the window."""

    path = ""

    def __init__(self) -> None:
        self.accepted: dict[str, tuple[str, Place, int]] = {}
        self.forgotten: set[str] = set()  # Ids that it would take a second time.
        self.doubled: list[tuple[str, Place, int]] = []
        self.by_adapter = Counter[str]()
        self.faults: deque[Fault] = deque()
        self.unknown_customers: set[str] = set()
        self.calls = 0
        self.largest = 0
        self.now_ms: Callable[[], int] = lambda: T0
        self._let_go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Billing:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def sums(self) -> dict[Place, int]:
        """What it would bill, without zeros."""
        found: dict[Place, int] = {}
        for _customer, place, quantity in (*self.accepted.values(), *self.doubled):
            found[place] = found.get(place, 0) + quantity
        return {place: quantity for place, quantity in found.items() if quantity}

    def forget(self) -> None:
        """The time is over in which it knows an id again."""
        self.forgotten = set(self.accepted)

    def hold(self) -> None:
        """Wait as long as a client that gives up."""
        self._let_go.wait(5)

    def take(self, id_: str, customer: str, place: Place, quantity: int, said: Mapping[str, Any] | None = None) -> bool:
        """Book an event, with what it ``said`` of itself; False for one that it knows."""
        if id_ in self.forgotten:
            self.doubled.append((customer, place, quantity))
            return True
        if id_ in self.accepted:
            return False
        self.accepted[id_] = (customer, place, quantity)
        self.by_adapter[said["adapter"] if said else ""] += quantity
        return True

    def receive(self, path: str, content: bytes) -> Answer:
        """Handle one call as the system would."""
        raise NotImplementedError


class OpenMeterServer(Billing):
    """CloudEvents in batches; duplicates by id and source are dropped without a word."""

    def receive(self, path: str, content: bytes) -> Answer:
        """Take a batch whole, or refuse it whole."""
        assert path == "/api/v1/events", path
        events = json.loads(content)
        self.largest = max(self.largest, len(events))
        if any(each["subject"] in self.unknown_customers for each in events):
            return 400, {"title": "Bad Request", "detail": "validation error"}
        for each in events:
            assert each["source"] == "urn:millrace:metering"
            start_ms = round(datetime.fromisoformat(each["time"]).timestamp() * 1000)
            data = each["data"]
            self.take(each["id"], each["subject"], (each["type"], start_ms), int(data["quantity"]), data)
        return 204, None


class StripeServer(Billing):
    """Meter events one by one, and cancellations within a day."""

    def __init__(self) -> None:
        super().__init__()
        self.received_ms: dict[str, int] = {}

    def receive(self, path: str, content: bytes) -> Answer:
        """Take an event or a cancellation."""
        form = dict(parse_qsl(content.decode(), strict_parsing=True))
        if path == "/v1/billing/meter_event_adjustments":
            return self._cancel(form)
        assert path == "/v1/billing/meter_events", path
        self.largest = 1
        at_ms, customer = int(form["timestamp"]) * 1000, form["payload[stripe_customer_id]"]
        if customer in self.unknown_customers:
            return 404, {"error": {"code": "resource_missing", "message": "No such customer"}}
        if not self.now_ms() - 35 * DAY_MS <= at_ms <= self.now_ms() + 5 * MINUTE_MS:
            return 400, {"error": {"message": "The timestamp is out of range"}}
        value = int(form["payload[value]"])
        if value < 0:
            return 400, {"error": {"message": "The value must be positive"}}
        if not self.take(form["identifier"], customer, (form["event_name"], at_ms), value):
            message = f"An event already exists with identifier {form['identifier']}."
            return 400, {"error": {"type": "invalid_request_error", "message": message}}
        self.received_ms[form["identifier"]] = self.now_ms()
        return 200, {"object": "billing.meter_event", "identifier": form["identifier"]}

    def _cancel(self, form: dict[str, str]) -> Answer:
        id_ = form["cancel[identifier]"]
        if self.now_ms() - self.received_ms[id_] > 24 * HOUR_MS:
            return 400, {"error": {"message": "The event is older than 24 hours"}}
        customer, place, _quantity = self.accepted[id_]
        self.accepted[id_] = (customer, place, 0)
        return 200, {"object": "billing.meter_event_adjustment", "cancel": {"identifier": id_}}


class LagoServer(Billing):
    """Batches of at most 100, taken whole or not at all; the wrong ones are named by their place."""

    def receive(self, path: str, content: bytes) -> Answer:
        """Take a batch."""
        assert path == "/api/v1/events/batch", path
        events = json.loads(content)["events"]
        self.largest = max(self.largest, len(events))
        wrong: dict[str, dict[str, list[str]]] = {}
        for index, each in enumerate(events):
            if each["transaction_id"] in self.accepted:
                wrong[str(index)] = {"transaction_id": ["value_already_exist"]}
            if each["external_subscription_id"] in self.unknown_customers:
                wrong[str(index)] = {"external_subscription_id": ["value_is_invalid"]}
        if wrong or len(events) > 100:
            details: dict[str, Any] = wrong or {"events": ["too_many_events"]}
            return 422, {"status": 422, "code": "validation_errors", "error_details": details}
        for each in events:
            seconds, ms = each["timestamp"].split(".")
            place = (each["code"], int(seconds) * 1000 + int(ms))
            said = each["properties"]
            self.take(each["transaction_id"], each["external_subscription_id"], place, int(said["quantity"]), said)
        return 200, {"events": [{"transaction_id": each["transaction_id"]} for each in events]}


def _handler(billing: Billing) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            billing.calls += 1
            fault = billing.faults.popleft() if billing.faults else None
            if self.headers["authorization"] != "Bearer secret-of-the-test":
                fault = Fault.WRONG_KEY
            status, body = billing.receive(self.path, content) if fault is None or fault in TAKES else (0, None)
            if fault is None:
                self._answer(status, b"" if body is None else json.dumps(body).encode())
            elif fault in ANSWERS:
                self._answer(*ANSWERS[fault])
            else:
                if fault is Fault.TIMEOUT_AFTER_ACCEPT:
                    billing.hold()
                self.close_connection = True

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            if status == 429:
                self.send_header("retry-after", "7")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
