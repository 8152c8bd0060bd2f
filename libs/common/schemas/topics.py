"""`topics.yaml`: who tells what, who hears it, where it travels and how long it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from libs.common.bus.streams import STREAMS, stream_of, subject_filter
from libs.common.events.catalog import EVENTS
from libs.common.events.event import Event
from libs.common.schemas.bucket_files import bucket_topics
from libs.common.schemas.command_files import SENDER, command_topics
from libs.common.schemas.event_files import path_of

WIDTH: Final = 120
FRONTEND: Final = SENDER
BILLING: Final = "billing adapter"
# Who outside of Millrace an event is made for; anybody with the permission may read any.
OUTSIDE: Final[Mapping[str, tuple[str, ...]]] = {
    "endpoint.stage_changed": (FRONTEND,),
    "endpoint.failed": (FRONTEND,),
    "operation.finished": (FRONTEND,),
    "budget.warned": (FRONTEND,),
    "domain.changed": (FRONTEND,),
    "command.answered": (FRONTEND,),
    "usage.recorded": (BILLING,),
}


def topics_file() -> str:
    """The text of the file."""
    topics = {
        "streams": stream_topics(),
        "events": event_topics(),
        "commands": command_topics(),
        "buckets": bucket_topics(),
    }
    return yaml.safe_dump(topics, sort_keys=False, width=WIDTH)


def event_topics() -> list[dict[str, Any]]:
    """One entry for each event version."""
    ages = {each.name: each.max_age_s for each in STREAMS}
    return [
        {
            "type": name,
            "meaning": meaning_of(kind),
            "owner": str(kind.owner),
            "consumers": sorted(map(str, kind.consumers)),
            "outside": list(OUTSIDE.get(kind.kind, ())),
            "stream": stream_of(kind),
            "subject": subject_filter(kind),
            "schema": f"schemas/{path_of(kind)}.json",
            "retention_s": ages[stream_of(kind)],
        }
        for name, kind in EVENTS.items()
    ]


def stream_topics() -> list[dict[str, Any]]:
    """One entry for each stream, with what its reader and its writer must know."""
    return [
        {
            "stream": each.name,
            "subjects": list(each.subjects),
            "retention": str(each.retention),
            "retention_s": each.max_age_s,
            "dedupe_s": each.dedupe_s,
            "max_message_bytes": each.max_msg_size_bytes,
        }
        for each in STREAMS
    ]


def meaning_of(kind: type[Event]) -> str:
    """What an event says, in a sentence or two."""
    return " ".join((kind.__doc__ or "").split())


assert set(OUTSIDE) <= {kind.kind for kind in EVENTS.values()}
