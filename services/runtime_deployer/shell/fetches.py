"""How far downloads are, from the last line of a fetch's log: what Kubernetes has of a container that still runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from libs.common.errors import Unavailable
from libs.common.telemetry.logging import fields
from services.runtime_deployer.core.observed import FETCH, ContainerSeen, ContainerState, FetchSeen, PodSeen
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import Connections

log = logging.getLogger(__name__)

STEPS: Final = 20  # Each is an event and a row of the journal; a customer wants no more.
DONE: Final = "done"  # As libs/model_fetch says it.
LAST_LINE: Final = {"container": FETCH, "tailLines": "1", "limitBytes": "1000"}
TIMEOUT_S: Final = 2.0  # A kubelet that is slow to tell a line holds up the look at everything else.


def with_fetches(connections: Connections, cluster: Cluster, path: str, pods: Iterable[PodSeen]) -> tuple[PodSeen, ...]:
    """The pods with what their fetches say of themselves. ``path`` is where pods are."""
    return tuple(
        each.model_copy(update={"fetched": _said(connections, cluster, f"{path}/{each.name}/log", each.fetch)})
        if each.fetch is not None and not each.terminating
        else each
        for each in pods
    )


def _said(connections: Connections, cluster: Cluster, path: str, fetch: ContainerSeen) -> FetchSeen | None:
    """While it runs, in its log; when it ended well, in its termination message, which costs no request."""
    if fetch.is_done:
        return fetch_seen(_parsed(fetch.message))
    return _fetched(connections, cluster, path) if fetch.state is ContainerState.RUNNING else None


def _parsed(message: str) -> Mapping[str, Any]:
    try:
        found = json.loads(message or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _fetched(connections: Connections, cluster: Cluster, path: str) -> FetchSeen | None:
    """What it says, if that can be had now: nothing depends on it."""
    try:
        reply = connections.ask(cluster, "GET", path, query=LAST_LINE, timeout_s=TIMEOUT_S)
    except Unavailable as wrong:
        log.info("fetch not heard", extra=fields(action=f"read {path}", reason=str(wrong)))
        return None
    return fetch_seen(reply.body) if reply.is_ok else None


def fetch_seen(line: Mapping[str, Any]) -> FetchSeen | None:
    """How far a fetch is, of a line of its log; None if it does not say."""
    done, total = line.get("bytes_done"), line.get("bytes_total")
    if not isinstance(done, int) or not isinstance(total, int) or not 0 <= done <= total or total < 1:
        return None
    fetched = line.get("bytes_fetched") if line.get("state") == DONE else None
    return FetchSeen(
        bytes_done=total * (STEPS * done // total) // STEPS,
        bytes_total=total,
        bytes_fetched=fetched if isinstance(fetched, int) and fetched >= 0 else None,
    )
