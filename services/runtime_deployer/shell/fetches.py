"""How far downloads are, from the last line of a fetch's log: what Kubernetes has of a container that still runs."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from libs.common.errors import Unavailable
from libs.common.telemetry.logging import fields
from services.runtime_deployer.core.observed import (
    FETCH,
    CacheListed,
    ContainerSeen,
    ContainerState,
    FetchSeen,
    PodSeen,
)
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import Connections

log = logging.getLogger(__name__)

STEPS: Final = 20  # Each is an event and a row of the journal; a customer wants no more.
DONE: Final = "done"  # As libs/model_fetch says it.
HIT: Final = "hit"
MISS: Final = "miss"
LAST_LINE: Final = {"container": FETCH, "tailLines": "1", "limitBytes": "1000"}
TIMEOUT_S: Final = 2.0  # A kubelet that is slow to tell a line holds up the look at everything else.
SKIPPED: Final = 30  # Looks after one that was not answered: a node that died with a download must not cost 2 s a look.
PODS_MAX: Final = 1_000  # Downloads at one time; beyond it the one that was asked least recently is forgotten.


@dataclass(slots=True)
class _Heard:
    seen: FetchSeen | None = None
    skips: int = 0


class Fetches:
    """What the fetches of pods say of themselves. A pod that can't be heard is left alone for a while."""

    def __init__(self, connections: Connections, path: str) -> None:
        self._connections = connections
        self._path = path  # Where pods are.
        self._heard: OrderedDict[tuple[Cluster, str], _Heard] = OrderedDict()

    def add_to(self, cluster: Cluster, pods: Iterable[PodSeen]) -> tuple[PodSeen, ...]:
        """The pods with what their fetches say."""
        return tuple(self._with(cluster, each, each.fetch) for each in pods)

    def _with(self, cluster: Cluster, pod: PodSeen, fetch: ContainerSeen | None) -> PodSeen:
        if fetch is None or (pod.terminating and not fetch.is_done):
            return pod
        fetched = self._said(cluster, pod, fetch)
        if fetched is None or fetched.listed is None:
            return pod.model_copy(update={"fetched": fetched})
        # It is kept once, as read: a list of models is long.
        init = tuple(each.model_copy(update={"message": ""}) if each is fetch else each for each in pod.init)
        return pod.model_copy(update={"fetched": fetched, "init": init})

    def _said(self, cluster: Cluster, pod: PodSeen, fetch: ContainerSeen) -> FetchSeen | None:
        """While it runs, in its log; when it ended well, in its termination message, which costs no request."""
        if fetch.is_done:
            self._heard.pop((cluster, pod.uid), None)
            return fetch_seen(_parsed(fetch.message))
        return self._now(cluster, pod) if fetch.state is ContainerState.RUNNING else None

    def _now(self, cluster: Cluster, pod: PodSeen) -> FetchSeen | None:
        """What it says, or last said: nothing depends on it, so nothing waits for it twice."""
        heard = self._heard.setdefault((cluster, pod.uid), _Heard())
        self._heard.move_to_end((cluster, pod.uid))
        if len(self._heard) > PODS_MAX:
            self._heard.popitem(last=False)
        if heard.skips:
            heard.skips -= 1
            return heard.seen
        path = f"{self._path}/{pod.name}/log"
        try:
            reply = self._connections.ask(cluster, "GET", path, query=LAST_LINE, timeout_s=TIMEOUT_S)
        except Unavailable as wrong:
            log.info("fetch not heard", extra=fields(action=f"read {path}", reason=str(wrong)))
            heard.skips = SKIPPED
            return heard.seen
        heard.skips = 0 if reply.is_ok else SKIPPED
        heard.seen = fetch_seen(reply.body) or heard.seen
        return heard.seen


def _parsed(message: str) -> Mapping[str, Any]:
    try:
        found = json.loads(message or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def fetch_seen(line: Mapping[str, Any]) -> FetchSeen | None:
    """How far a fetch is, of a line of its log; None if it does not say."""
    done, total = line.get("bytes_done"), line.get("bytes_total")
    if not isinstance(done, int) or not isinstance(total, int) or not 0 <= done <= total or total < 1:
        return None
    is_done = line.get("state") == DONE
    fetched = line.get("bytes_fetched") if is_done else None
    return FetchSeen(
        bytes_done=total * (STEPS * done // total) // STEPS,
        bytes_total=total,
        bytes_fetched=fetched if isinstance(fetched, int) and fetched >= 0 else None,
        listed=_listed(line) if is_done else None,
    )


def _listed(line: Mapping[str, Any]) -> CacheListed | None:
    """What it says of the cache; None if that is nothing, or not to be believed."""
    if line.get("cache") not in (HIT, MISS):
        return None
    try:
        return CacheListed.model_validate({**line, "is_hit": line["cache"] == HIT}, strict=True)
    except ValidationError:
        return None
