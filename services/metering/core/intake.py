"""What a reported request becomes in the ledger: three lines and more, or one parked line; never a guess.

All lines of a request carry its whole content, so a second report of it either equals them all or conflicts
with them all. An unknown count stays null in the content; its line counts 0 and only holds the id.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from typing import Final

from libs.common.decision import Line
from libs.common.events.route import RequestUsage
from libs.common.events.usage import Meter
from libs.common.units import DAY_MS, MINUTE_MS
from services.metering.core.accounts import Flaw, parked_account, root_of
from services.metering.core.labels import Labels, text_of

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
TOKENS_MAX: Final = 100_000_000  # No engine has a context near it; a larger count is a fault, not a bill.
BYTES_MAX: Final = 1 << 40  # Of one answer; what we relay is far below.
LATER: Final = frozenset({"cached_prompt_tokens", "reasoning_tokens", "egress_bytes"})
TIME_MAX_MS: Final = 1 << 52  # Year 144,000; keeps every time within the exact integers of any reader of our JSON.
AS_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))  # All fields are text, numbers or null.
FUTURE_MAX_MS: Final = 5 * MINUTE_MS  # What routers' clocks may be ahead of ours (and what billing systems accept).
# A journal outlives the boots of its router, so a report may be older than the boot that sends it; but not older than
# any router that was ever switched on again.
AGE_MAX_MS: Final = 400 * DAY_MS


def flaw_of(usage: RequestUsage) -> Flaw | None:
    """What is wrong with a report, whenever it is looked at; None if nothing is."""
    names = _is_id(usage.tenant_id) and _is_id(usage.project_id) and _is_id(usage.endpoint_id)
    if not names or not ID.fullmatch(usage.request_id):
        return Flaw.MALFORMED_ID
    tokens, times_ms = (usage.prompt_tokens or 0, usage.completion_tokens), (usage.started_ms, usage.ended_ms)
    parts = (usage.cached_prompt_tokens or 0, usage.reasoning_tokens or 0, usage.egress_bytes or 0)
    if min(*tokens, *times_ms, *parts) < 0:
        return Flaw.NEGATIVE
    if max(tokens) > TOKENS_MAX or max(times_ms) > TIME_MAX_MS or _is_part_larger(usage):
        return Flaw.TOO_LARGE
    if usage.ended_ms < usage.started_ms:
        return Flaw.ENDED_BEFORE_STARTED
    return None


@lru_cache(maxsize=4096)
def _is_id(text: str) -> bool:
    """Whether a name is one; the same few come with every request."""
    return ID.fullmatch(text) is not None


def _is_part_larger(usage: RequestUsage) -> bool:
    """Whether more was cached than was prompted, more was thought than was said, or more was sent than can be."""
    if (usage.egress_bytes or 0) > BYTES_MAX:
        return True
    is_over = usage.prompt_tokens is not None and (usage.cached_prompt_tokens or 0) > usage.prompt_tokens
    return is_over or (usage.reasoning_tokens or 0) > usage.completion_tokens


def is_future(usage: RequestUsage, *, now_ms: int) -> bool:
    """Whether a report ends later than any clock of ours could say."""
    return usage.ended_ms > now_ms + FUTURE_MAX_MS


def flaw_now(usage: RequestUsage, *, now_ms: int, is_foreign: bool = False) -> Flaw | None:
    """What is wrong with a report at this time, and as far as it is known whose endpoint it names."""
    flaw = flaw_of(usage)
    if flaw is not None:
        return flaw
    if is_future(usage, now_ms=now_ms):
        return Flaw.FUTURE
    if usage.ended_ms < now_ms - AGE_MAX_MS:
        return Flaw.TOO_OLD
    return Flaw.FOREIGN if is_foreign else None


def lines_of(usage: RequestUsage, *, now_ms: int, is_foreign: bool = False) -> tuple[Line, ...]:
    """The ledger lines of one report, the same ones for the same report."""
    flaw = flaw_now(usage, now_ms=now_ms, is_foreign=is_foreign)
    if flaw is not None:
        return (_parked(usage, flaw, content_of(usage)),)
    counts = (
        (Meter.REQUESTS, 1),
        (Meter.PROMPT_TOKENS, usage.prompt_tokens or 0),
        (Meter.COMPLETION_TOKENS, usage.completion_tokens),
    )
    account = root_of(tenant=usage.tenant_id, project=usage.project_id, endpoint=usage.endpoint_id)
    content, labels = content_of(usage), text_of(_labels(usage))
    # One parked line stands for the three that conflict together.
    conflict = _parked(usage, Flaw.CONFLICT, content)

    def line(meter: Meter, count: int, given: str = "") -> Line:
        id_ = f"request/{usage.request_id}/{meter}"
        return Line(id_, account, meter, count, usage.ended_ms, content, conflict, labels, given)

    always = tuple(line(meter, count) for meter, count in counts)
    # What is known of few requests has a line only where there is something to count, and only with the others.
    return (*always, *(line(meter, count, given=always[0].id) for meter, count in _details(usage) if count))


def _details(usage: RequestUsage) -> tuple[tuple[Meter, int | None], ...]:
    return (
        (Meter.CACHED_PROMPT_TOKENS, usage.cached_prompt_tokens),
        (Meter.REASONING_TOKENS, usage.reasoning_tokens),
        (Meter.EGRESS_BYTES, usage.egress_bytes),
    )


def garbage_line(text: str) -> Line:
    """The parked line of what was no report at all."""
    return _parked_line(Flaw.MALFORMED, text.encode(), at_ms=0)


def _parked(usage: RequestUsage, flaw: Flaw, content: bytes) -> Line:
    return _parked_line(flaw, content, at_ms=usage.ended_ms if 0 <= usage.ended_ms <= TIME_MAX_MS else 0)


def _parked_line(flaw: Flaw, content: bytes, *, at_ms: int) -> Line:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return Line(f"parked/{flaw}/{digest}", parked_account(flaw), Meter.REQUESTS, 1, at_ms, content)


def _labels(usage: RequestUsage) -> Labels:
    return Labels(
        model=usage.model, generation=usage.generation, tier=usage.tier, region=usage.region, key=usage.key_id
    )


def content_of(usage: RequestUsage) -> bytes:
    """A report as the ledger keeps it: the same bytes for the same report, also if a build without the later fields
    entered it and one that has them is told of it again."""
    said = {name: each for name, each in vars(usage).items() if each is not None or name not in LATER}
    return AS_JSON.encode(said).encode()
