"""What a project may hear of itself: which of our messages, whose they are, and how they look outside the bus."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from libs.common.store.port import Outgoing
from services.endpoint_api.core.state import home_of

# Nothing with a placement in it: that is how we serve, not what was asked.
SHOWN: Final = frozenset(
    {
        "endpoint.stage_changed", "endpoint.failed", "endpoint.pause_requested", "endpoint.deletion_requested",
        "operation.finished", "budget.warned", "domain.changed", "key.created", "key.revoked", "key.rotated",
        "webhook.disabled", "webhook.tested",
    }
)  # fmt: skip
TO_ONE: Final = frozenset({"webhook.tested"})  # Sent to the webhook that it is about, and to nobody else.


@dataclass(frozen=True, slots=True)
class Notice:
    """A message as its project hears it: `body` is the CloudEvent in JSON, `home` the project."""

    position: int
    id: str
    kind: str
    subject: str
    home: str
    body: str


def notice_of(told: Outgoing, home_of_endpoint: Callable[[str], str]) -> Notice | None:
    """The notice in a message of our outbox; None if it is for nobody outside.

    ``home_of_endpoint`` answers whose an endpoint is, for events that do not say it.
    """
    headers = {name: unquote(value) for name, value in told.message.headers.items()}
    kind = headers.get("ce-type", "").rpartition(".v")[0]
    if kind not in SHOWN:
        return None
    data = json.loads(told.message.body)
    subject = headers["ce-subject"]
    home = home_of(data["tenant_id"], data["project_id"]) if "project_id" in data else home_of_endpoint(subject)
    return Notice(told.position, headers["ce-id"], kind, subject, home, _structured(headers, data))


def wants(patterns: tuple[str, ...], notice: Notice, *, webhook_id: str) -> bool:
    """Whether a webhook that asked for these kinds (`*`: all, `endpoint.*`: all of endpoints) gets a notice."""
    if notice.kind in TO_ONE:
        return notice.subject == webhook_id
    noun = notice.kind.partition(".")[0]
    return not {"*", notice.kind, f"{noun}.*"}.isdisjoint(patterns)


def _structured(headers: dict[str, str], data: object) -> str:
    """A CloudEvent in structured mode, with the values that it has on the bus."""
    event: dict[str, object] = {
        name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")
    }
    event["datacontenttype"] = headers.get("content-type", "application/json")
    event["data"] = data
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
