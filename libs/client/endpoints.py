"""Endpoints and their operations, as in the OpenAPI document; `wait` and `watch` on top."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from libs.client.paging import pages
from libs.client.transport import Json, Transport, segment
from libs.client.watching import events
from libs.common.errors import MillraceError

POLL_S: Final = 0.25  # An eye sees no faster; four reads a second are nothing to the API.
AT_REST: Final = frozenset({"ready", "failed", "paused", "deleted"})


class Endpoints:
    """A project's endpoints. `ref` is an id or a name; each change is answered with its operation."""

    def __init__(self, transport: Transport, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._transport = transport
        self._pause = pause

    def create(self, name: str, spec: Json, *, idempotency_key: str = "", dry_run: bool = False) -> Json:
        """Ask for an endpoint."""
        return self._change("POST", "", {"name": name, "spec": spec}, dry_run=dry_run, idempotency_key=idempotency_key)

    def get(self, ref: str) -> Json:
        """The endpoint as it stands."""
        return self._transport.call("GET", f"/v1/endpoints/{segment(ref)}")

    def list(self, **filters: object) -> Iterator[Json]:
        """The project's endpoints; filters are `stage`, `tier`, `model`, `name_prefix`."""
        return pages(self._transport, "/v1/endpoints", filters)

    def update(self, ref: str, changes: Json, *, if_generation: int | None = None, dry_run: bool = False) -> Json:
        """Change the spec by an RFC 7396 merge patch; with `if_generation`, only what was last seen at it."""
        if_match = "" if if_generation is None else f'"{if_generation}"'
        return self._change("PATCH", f"/{segment(ref)}", {"spec": changes}, if_match=if_match, dry_run=dry_run)

    def scale(self, ref: str, scaling: Json, *, dry_run: bool = False) -> Json:
        """Change how many replicas may run."""
        return self._change("POST", f"/{segment(ref)}/scale", {"scaling": scaling}, dry_run=dry_run)

    def pause(self, ref: str, *, drain_deadline_s: int | None = None, dry_run: bool = False) -> Json:
        """Give back what it runs on; name, spec and keys stay."""
        return self._change("POST", f"/{segment(ref)}/pause", _deadline(drain_deadline_s), dry_run=dry_run)

    def drain(self, ref: str, *, drain_deadline_s: int, dry_run: bool = False) -> Json:
        """Take no new requests, let live ones finish until the deadline, then pause."""
        return self._change("POST", f"/{segment(ref)}/drain", _deadline(drain_deadline_s), dry_run=dry_run)

    def resume(self, ref: str, *, dry_run: bool = False) -> Json:
        """Bring back what was paused or has failed."""
        return self._change("POST", f"/{segment(ref)}/resume", None, dry_run=dry_run)

    def delete(self, ref: str, *, drain_deadline_s: int | None = None, dry_run: bool = False) -> Json:
        """Take it away for good."""
        query = {"drain_deadline_s": drain_deadline_s}
        return self._change("DELETE", f"/{segment(ref)}", None, dry_run=dry_run, query=query)

    def why(self, ref: str) -> Json:
        """Why it is not ready yet: causes by rank, and what would help."""
        return self._transport.call("GET", f"/v1/endpoints/{segment(ref)}/why")

    def watch(self, ref: str, *, last_event_id: str = "") -> Iterator[Json]:
        """Its events as they happen, from behind `last_event_id`; goes on by itself when the connection breaks."""
        return events(self._transport, f"/v1/endpoints/{segment(ref)}/watch", last_event_id=last_event_id)

    def follow(self, ref: str, *, until: frozenset[str] = AT_REST, timeout_s: float = 600.0) -> Iterator[Json]:
        """The endpoint, again and again, until its stage is one of `until`. Raises MillraceError after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            endpoint = self.get(ref)
            yield endpoint
            stage = endpoint["status"]["stage"]
            if stage in until:
                return
            if time.monotonic() > deadline_s:
                raise MillraceError(f"{ref} is still {stage} after {timeout_s:.0f} s; it goes on without us")
            self._pause(POLL_S)

    def _change(
        self,
        method: str,
        path: str,
        body: Json | None,
        *,
        dry_run: bool,
        query: Mapping[str, object] | None = None,
        if_match: str = "",
        idempotency_key: str = "",
    ) -> Json:
        asked = {**(query or {}), "dry_run": dry_run or None}
        return self._transport.call(
            method, f"/v1/endpoints{path}", body=body, query=asked, if_match=if_match, idempotency_key=idempotency_key
        )


class Operations:
    """What was asked of endpoints, and how it went."""

    def __init__(self, transport: Transport, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._transport = transport
        self._sleep = pause

    def get(self, operation_id: str) -> Json:
        """How it stands."""
        return self._transport.call("GET", f"/v1/operations/{segment(operation_id)}")

    def list(self, **filters: object) -> Iterator[Json]:
        """The project's operations; filters are `endpoint` and `status`."""
        return pages(self._transport, "/v1/operations", filters)

    def cancel(self, operation_id: str) -> Json:
        """Undo what is still running."""
        return self._transport.call("POST", f"/v1/operations/{segment(operation_id)}/cancel")

    def pause(self, operation_id: str) -> Json:
        """Hold a rollout where it is."""
        return self._transport.call("POST", f"/v1/operations/{segment(operation_id)}/pause")

    def resume(self, operation_id: str) -> Json:
        """Let a rollout that was paused go on."""
        return self._transport.call("POST", f"/v1/operations/{segment(operation_id)}/resume")

    def wait(self, operation_id: str, *, timeout_s: float = 600.0) -> Json:
        """The operation at its end, whatever that is. Raises MillraceError after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while (operation := self.get(operation_id))["status"] == "running":
            if time.monotonic() > deadline_s:
                raise MillraceError(f"{operation_id} still runs after {timeout_s:.0f} s; it goes on without us")
            self._sleep(POLL_S)
        return operation


def _deadline(drain_deadline_s: int | None) -> Json:
    return {} if drain_deadline_s is None else {"drain_deadline_s": drain_deadline_s}
