"""One call of the API: its key, its repeats, its errors.

Every change carries an Idempotency-Key, so a call that got no answer, or was told to come again, is safely made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx

from libs.common.errors import Invalid, MillraceError
from libs.common.ids import Entropy, SystemEntropy

Json = dict[str, Any]

TRIES_MAX: Final = 7  # About a quarter of a minute: longer than a request of a process that died is held for it.
PAUSE_FIRST_S: Final = 0.25  # Doubled with each try; what the service says in Retry-After counts more.
PAUSE_MAX_S: Final = 10.0
PATIENCE_S: Final = 60.0  # No try begins later: of a service that hangs, each takes the whole time-out of a request.
CHANGES: Final = frozenset({"POST", "PATCH", "PUT", "DELETE"})


class Refused(MillraceError):
    """The service said no. `status` is its HTTP status, `code` and `problem` are those of its problem document."""

    def __init__(self, message: str, *, status: int, code: str, problem: Json | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.problem = problem or {}


class Unreachable(MillraceError):
    """Nobody answered. A change may have been made: asked again with the same Idempotency-Key, it is made once."""


class Transport:
    """Calls one API with one key. Thread-safe, as httpx's client is."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        project: str = "",
        http: httpx.Client | None = None,
        entropy: Entropy | None = None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url.rstrip("/")
        self._http = http or httpx.Client(timeout=30.0)
        self._headers = {"authorization": f"Bearer {key}", "user-agent": "millrace-python"}
        if project:
            self._headers["x-millrace-project"] = project
        self._entropy = entropy or SystemEntropy()
        self._pause = pause
        self._clock = clock
        self._has_answered = False  # Then nobody there means that it restarts, not that nothing runs.

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        query: Mapping[str, object] | None = None,
        if_match: str = "",
        idempotency_key: str = "",
    ) -> Json:
        """The answer. Raises Refused if the service says no for good, Unreachable if it does not answer."""
        headers = dict(self._headers)
        if method in CHANGES:
            headers["idempotency-key"] = idempotency_key or self._entropy.token_bytes(16).hex()
        if if_match:
            headers["if-match"] = if_match
        wanted = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        began_s = self._clock()
        for attempt in range(1, TRIES_MAX + 1):
            try:
                answer = self._http.request(method, f"{self._url}{path}", json=body, params=wanted, headers=headers)
            except (httpx.TransportError, httpx.InvalidURL) as trouble:
                if self._is_last(attempt, began_s) or self._is_hopeless(trouble):
                    raise unreachable(self._url, trouble) from None
                self._pause(_pause_s(attempt, ""))
                continue
            self._has_answered = True
            last = self._is_last(attempt, began_s)
            if answer.is_error and not last and _is_retryable(answer):
                self._pause(_pause_s(attempt, answer.headers.get("retry-after", "")))
                continue
            return _read(answer)
        raise AssertionError("unreachable")

    def _is_last(self, attempt: int, began_s: float) -> bool:
        return attempt == TRIES_MAX or self._clock() - began_s >= PATIENCE_S

    def _is_hopeless(self, trouble: Exception) -> bool:
        """Whether another try would end the same way: nobody was ever there, or the address is none."""
        if isinstance(trouble, httpx.ConnectError):
            return not self._has_answered
        return isinstance(trouble, httpx.InvalidURL | httpx.UnsupportedProtocol)

    @contextmanager
    def lines(self, path: str, *, last_event_id: str = "") -> Iterator[Iterator[str]]:
        """The lines of an endless answer. Raises Refused or Unreachable before the first line."""
        headers = {**self._headers, "accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        url, patience = f"{self._url}{path}", httpx.Timeout(30.0, read=90.0)
        try:
            with self._http.stream("GET", url, headers=headers, timeout=patience) as answer:
                if answer.is_error:
                    answer.read()
                    raise refused(answer)
                yield answer.iter_lines()
        except httpx.TransportError as trouble:
            raise unreachable(self._url, trouble) from None

    def close(self) -> None:
        """Give back connections."""
        self._http.close()


def segment(name: str) -> str:
    """A name or an id as one part of a path. Raises Invalid for what would be another path, and so another thing."""
    if not name.strip(".") or "/" in name:
        raise Invalid(f"{name!r} is no name or id: give one as `list` shows it")
    return quote(name, safe="", errors="surrogateescape")


def refused(answer: httpx.Response) -> Refused:
    """What the service said no with, in one line: a problem document, or OpenAI's error shape."""
    try:
        found = answer.json()
    except ValueError:
        found = {}
    problem: Json = found if isinstance(found, dict) else {}
    openai = problem.get("error", {}) if isinstance(problem.get("error"), dict) else {}
    message = problem.get("detail") or openai.get("message") or problem.get("title") or answer.reason_phrase
    code = problem.get("code") or openai.get("code") or str(answer.status_code)
    return Refused(f"{message} ({answer.status_code}, {code})", status=answer.status_code, code=code, problem=problem)


def unreachable(url: str, trouble: Exception) -> Unreachable:
    """Why nobody answered at ``url``, in one line."""
    return Unreachable(f"{url} can't be reached ({type(trouble).__name__}): is it running? `millrace status` tells")


def _read(answer: httpx.Response) -> Json:
    if answer.is_error:
        raise refused(answer)
    try:
        result: Json = answer.json() if answer.content else {}
    except ValueError:
        raise MillraceError(f"{answer.url} answered, but not in JSON: is that address right?") from None
    return result


def _is_retryable(answer: httpx.Response) -> bool:
    return bool(refused(answer).problem.get("retryable")) or answer.status_code == httpx.codes.BAD_GATEWAY


def _pause_s(attempt: int, said: str) -> float:
    asked_s = float(said) if said.isdigit() else 0.0
    return min(PAUSE_MAX_S, max(asked_s, PAUSE_FIRST_S * 2.0 ** (attempt - 1)))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
