"""Parked input that was driven again: it left the account where it was kept, and who had it driven is written down."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

from libs.common.decision import Decision, Line
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.usage import Meter


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked line, by its id, and who had it driven again (empty: nobody)."""

    key: str
    by: str = ""


class Redriven(Internal):
    """The input was entered after all; the line that parked it, in `account` at `at_ms`, no longer counts."""

    kind: ClassVar[str] = "metering.redriven"
    owner: ClassVar[Owner] = Owner.METERING

    by: str
    account: str
    at_ms: int


def decide(parked: Parked, envelope: Envelope, _now_ms: int) -> Decision[Parked]:
    """Take the line back, once, by a line that names it and says who asked."""
    redriven = envelope.data
    assert isinstance(redriven, Redriven), redriven
    if parked.by:
        return Decision(parked)
    content = json.dumps({"by": redriven.by, "corrects": parked.key}, sort_keys=True, separators=(",", ":")).encode()
    back = Line(f"back/{parked.key}", redriven.account, Meter.REQUESTS, -1, redriven.at_ms, content)
    return Decision(replace(parked, by=redriven.by), lines=(back,))
