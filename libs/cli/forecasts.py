"""How long things will take, in words: rounded, as nobody knows it better, and nothing where nothing is known."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from libs.client import Json
from libs.common.units import SECOND_MS

SECONDS_UP_TO: Final = 90  # Longer is said in minutes,
MINUTES_UP_TO: Final = 90  # and longer still in hours.


def about(took_ms: int) -> str:
    """A duration as people estimate: ``about 40 s``, ``about 4 min``, ``about 2 h 10 min``."""
    seconds = round(took_ms / SECOND_MS)
    if seconds < 1:
        return "less than a second"
    if seconds <= SECONDS_UP_TO:
        return f"about {seconds} s"
    minutes = round(seconds / 60)
    if minutes <= MINUTES_UP_TO:
        return f"about {minutes} min"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"


def left(p50_ms: int | None, p90_ms: int | None) -> str:
    """What is left, half and nine tenths of the time; empty if not known."""
    if p50_ms is None or p90_ms is None:
        return ""
    likely, most = about(p50_ms), about(p90_ms)
    return f"{likely} left" if most == likely else f"{likely} left, at most {most}"


def ready_in(known: Json, now: datetime) -> str:
    """When a status or an explanation says that it will be ready, from ``now`` on; empty if not known."""
    likely_at, most_at = known.get("ready_eta_p50_at"), known.get("ready_eta_p90_at")
    if likely_at is None or most_at is None:
        return ""
    return ready_after(_ms(moment(likely_at) - now), _ms(moment(most_at) - now))


def ready_after(p50_ms: int, p90_ms: int) -> str:
    """The same of so many milliseconds."""
    likely, most = about(p50_ms), about(p90_ms)
    return likely if most == likely else f"{likely}, at most {most}"


def now_of(endpoint: Json) -> datetime:
    """The service's own time when it answered: an endpoint's stages sum to the time since it was made."""
    elapsed_ms = sum(each["elapsed_ms"] for each in endpoint["status"]["stages"])
    return moment(endpoint["created_at"]) + timedelta(milliseconds=elapsed_ms)


def moment(text: str) -> datetime:
    """A time as the API writes it."""
    return datetime.fromisoformat(text)


def _ms(span: timedelta) -> int:
    return max(0, span // timedelta(milliseconds=1))
