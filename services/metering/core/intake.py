"""What a reported request becomes in the ledger: three lines and more, or one parked line; never a guess.

All lines of a request carry its whole content, so a second report of it either equals them all or conflicts
with them all. An unknown count stays null in the content; its line counts 0 and only holds the id.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from libs.common.decision import Line
from libs.common.events.route import RequestUsage
from libs.common.events.usage import Meter
from libs.common.units import DAY_MS, MINUTE_MS
from services.metering.core.accounts import Flaw, parked_account, root_of, slice_account
from services.metering.core.labels import Labels, text_of
from services.metering.core.money import COUNTED

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")
TOKENS_MAX: Final = 100_000_000  # No engine has a context near it; a larger count is a fault, not a bill.
SLICE: Final = re.compile(r"(?P<budget>[^@]+)@\d{4}-\d{2}")
BYTES_MAX: Final = 1 << 40  # Of one answer; what we relay is far below.
FIELDS: Final = tuple((name, f'"{name}":') for name in sorted(RequestUsage.model_fields))
LATER: Final = frozenset(
    f'"{name}":'
    for name in ("cached_prompt_tokens", "reasoning_tokens", "egress_bytes", "adapter", "slices", "tenancy")
)
TIME_MAX_MS: Final = 1 << 52  # Year 144,000; keeps every time within the exact integers of any reader of our JSON.
FUTURE_MAX_MS: Final = 5 * MINUTE_MS  # What routers' clocks may be ahead of ours (and what billing systems accept).
# A journal outlives the boots of its router, so a report may be older than the boot that sends it; but not older than
# any router that was ever switched on again.
AGE_MAX_MS: Final = 400 * DAY_MS


def flaw_of(usage: RequestUsage) -> Flaw | None:
    """What is wrong with a report, whenever it is looked at; None if nothing is."""
    names = _is_id(usage.tenant_id) and _is_id(usage.project_id) and _is_id(usage.endpoint_id)
    if not names or not ID.fullmatch(usage.request_id):
        return Flaw.MALFORMED_ID
    started_ms, ended_ms = usage.started_ms, usage.ended_ms
    prompt, completion, sent = usage.prompt_tokens or 0, usage.completion_tokens, usage.egress_bytes or 0
    cached, thought = usage.cached_prompt_tokens or 0, usage.reasoning_tokens or 0
    if min(prompt, completion, started_ms, ended_ms, cached, thought, sent) < 0:
        return Flaw.NEGATIVE
    if max(prompt, completion) > TOKENS_MAX or max(started_ms, ended_ms) > TIME_MAX_MS or sent > BYTES_MAX:
        return Flaw.TOO_LARGE
    if thought > completion or (cached > prompt and usage.prompt_tokens is not None):  # A part is more than the whole.
        return Flaw.TOO_LARGE
    if usage.slices and not _are_own(usage, usage.slices):
        return Flaw.FOREIGN
    return Flaw.ENDED_BEFORE_STARTED if ended_ms < started_ms else None


def _are_own(usage: RequestUsage, slices: Sequence[str]) -> bool:
    """Whether these are of budgets of its tenant, its project and a key of that, each once.

    Which key it is nobody asks: a successor spends the budget of the first.
    """
    project = f"{usage.tenant_id}.{usage.project_id}"
    found = [SLICE.fullmatch(each) for each in slices]
    budgets = [each["budget"] if each else "" for each in found]
    is_own = all(each in (usage.tenant_id, project) or each.rpartition(".")[0] == project for each in budgets)
    return is_own and len({*slices}) == len(slices)


@lru_cache(maxsize=4096)
def _is_id(text: str) -> bool:
    """Whether a name is one; the same few come with every request."""
    return ID.fullmatch(text) is not None


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
    content = content_of(usage)
    # One parked line stands for all that conflict together.
    conflict = partial(_parked, usage, Flaw.CONFLICT, content)
    account = root_of(tenant=usage.tenant_id, project=usage.project_id, endpoint=usage.endpoint_id)
    labels = _labels(
        usage.model, usage.generation, usage.tier, usage.region, usage.key_id, usage.adapter or "", usage.tenancy or ""
    )
    name, at_ms = f"request/{usage.request_id}/", usage.ended_ms
    first = name + Meter.REQUESTS
    lines = [Line(first, account, Meter.REQUESTS, 1, at_ms, content, conflict, labels)]
    for meter, count in (
        (Meter.PROMPT_TOKENS, usage.prompt_tokens or 0),
        (Meter.COMPLETION_TOKENS, usage.completion_tokens),
    ):
        lines.append(Line(name + meter, account, meter, count, at_ms, content, conflict, labels))
    # What is known of few requests has a line only where there is something to count, and only with the others.
    for meter, detail in (
        (Meter.CACHED_PROMPT_TOKENS, usage.cached_prompt_tokens),
        (Meter.REASONING_TOKENS, usage.reasoning_tokens),
        (Meter.EGRESS_BYTES, usage.egress_bytes),
    ):
        if detail:
            lines.append(Line(name + meter, account, meter, detail, at_ms, content, conflict, labels, given=first))
    if usage.slices:
        lines += _sliced(usage, usage.slices, lines)
    return tuple(lines)


def _sliced(usage: RequestUsage, slices: Iterable[str], lines: Sequence[Line]) -> list[Line]:
    """Its tokens once more, in the account of each budget that it was served from."""
    labels = _labels(usage.model, 0, usage.tier, "", "", "", "")
    return [
        replace(
            line, id=f"slice/{usage.request_id}/{name}/{line.meter}", account=slice_account(name), labels=labels,
            given=lines[0].id,
        )
        for name in slices
        for line in lines
        if line.meter in COUNTED
    ]  # fmt: skip


def garbage_line(text: str) -> Line:
    """The parked line of what was no report at all."""
    return _parked_line(Flaw.MALFORMED, text.encode(), at_ms=0)


def _parked(usage: RequestUsage, flaw: Flaw, content: bytes) -> Line:
    return _parked_line(flaw, content, at_ms=usage.ended_ms if 0 <= usage.ended_ms <= TIME_MAX_MS else 0)


def _parked_line(flaw: Flaw, content: bytes, *, at_ms: int) -> Line:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return Line(f"parked/{flaw}/{digest}", parked_account(flaw), Meter.REQUESTS, 1, at_ms, content)


@lru_cache(maxsize=4096)
def _labels(model: str, generation: int, tier: str, region: str, key: str, adapter: str, tenancy: str) -> str:
    return text_of(
        Labels(model=model, generation=generation, tier=tier, region=region, key=key, adapter=adapter, tenancy=tenancy)
    )


def _plain(value: object) -> object:
    """A number as it is, and a list of names as JSON has it."""
    return f"[{','.join(map(quoted, value))}]" if isinstance(value, tuple) else value


def content_of(usage: RequestUsage) -> bytes:
    """A report as the ledger keeps it: the same bytes for the same report, also if a build without the later fields
    entered it and one that has them is told of it again.

    JSON with sorted names and no blanks, put together here: an encoder made anew for each request takes thrice as long.
    """
    said = vars(usage)
    parts = [
        f"{name}{quoted(each) if each.__class__ is str else 'null' if each is None else _plain(each)}"
        for name, each in [(begin, said[field]) for field, begin in FIELDS]
        if each is not None or name not in LATER
    ]
    return f"{{{','.join(parts)}}}".encode()
