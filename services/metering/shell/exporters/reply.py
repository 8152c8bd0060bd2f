"""How a sending ended, and what an HTTP answer says of it.

The difference that matters: `UNSENT`, the receiver certainly did not take it; `UNSURE`, it may have, so only the same
id may be sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final, Protocol

import httpx

from services.metering.core.exports.state import Intent

TIMEOUT_S: Final = 20.0  # Billing systems answer in well under a second; more says that something is wrong there.
CONNECT_S: Final = 5.0
RETRY_AFTER_MAX_S: Final = 3600
WRONG_SETUP_RETRY_S: Final = 60.0  # A wrong key or address: people must act, and nothing is lost meanwhile.
DETAIL_MAX: Final = 200
SETUP: Final = frozenset({401, 403, 404, 405, 407})
BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.TOO_EARLY})


class End(Enum):
    """How a sending ended, as far as the answer says."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNSENT = "unsent"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Result:
    """How the sending of one intent ended. `detail` is the receipt, or what was wrong."""

    intent: Intent
    end: End
    detail: str = ""
    retry_after_s: float = 0.0


class Sender(Protocol):
    """A way to one receiver."""

    def send(self, intents: Sequence[Intent]) -> Sequence[Result]:
        """Send intents and say of each how it ended. Never raises for what the receiver or the network does."""

    def shown(self, intent: Intent) -> object:
        """What would be sent, for people to read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `end` is what the status alone says; None: the adapter must read `body`."""

    status: int
    end: End | None
    detail: str
    retry_after_s: float = 0.0
    body: object = None


def post(client: httpx.Client, path: str, *, content: bytes, headers: Mapping[str, str]) -> Answer:
    """POST once, and what it means where every receiver means the same."""
    try:
        response = client.post(path, content=content, headers=dict(headers))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        return Answer(0, End.UNSENT, type(error).__name__)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Answer(0, End.UNSURE, type(error).__name__)
    return _answer(response)


def all_of(intents: Sequence[Intent], answer: Answer, end: End) -> list[Result]:
    """The same end for all."""
    return [Result(each, end, answer.detail, answer.retry_after_s) for each in intents]


def brief(text: str) -> str:
    """As much of a receiver's words as a record keeps, in one line."""
    return " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * DETAIL_MAX]).split())[
        :DETAIL_MAX
    ]


def text_at(body: object, *path: str) -> str:
    """The text at a path in a JSON answer; empty if there is none."""
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body if isinstance(body, str) else ""


def _answer(response: httpx.Response) -> Answer:
    status, wait_s = response.status_code, _retry_after_s(response.headers.get("retry-after", ""))
    detail = f"{status} {response.headers.get('x-request-id') or response.headers.get('request-id') or ''}".strip()
    try:
        body = response.json()
    except ValueError:
        body = None
    end: End | None = None
    if status in BUSY:
        end = End.UNSENT
    elif status in SETUP:
        end, wait_s = End.UNSENT, max(wait_s, WRONG_SETUP_RETRY_S)
    elif 300 <= status < 400:
        end, wait_s = End.UNSENT, WRONG_SETUP_RETRY_S
    elif status >= 500 or status < 200 or status == HTTPStatus.REQUEST_TIMEOUT:
        end = End.UNSURE
    return Answer(status, end, brief(detail), wait_s, body)


def _retry_after_s(text: str) -> float:
    return float(min(RETRY_AFTER_MAX_S, int(text))) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0
