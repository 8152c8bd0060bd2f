"""`topics.yaml`: who tells what, who hears it, where it travels and how long it is kept."""

from __future__ import annotations

from typing import Any, Final

import yaml

from libs.common.bus.streams import STREAMS, stream_of, subject_filter
from libs.common.events.catalog import EVENTS

WIDTH: Final = 120


def topics_file() -> str:
    """The text of the file."""
    return yaml.safe_dump(event_topics(), sort_keys=False, width=WIDTH)


def event_topics() -> list[dict[str, Any]]:
    """One entry for each event version."""
    ages = {each.name: each.max_age_s for each in STREAMS}
    return [
        {
            "type": name,
            "meaning": " ".join((kind.__doc__ or "").split()),
            "owner": str(kind.owner),
            "consumers": sorted(map(str, kind.consumers)),
            "stream": stream_of(kind),
            "subject": subject_filter(kind),
            "retention_s": ages[stream_of(kind)],
        }
        for name, kind in EVENTS.items()
    ]
