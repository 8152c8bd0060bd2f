"""Letting a request in: the endpoint that its key may use, and room within every limit."""

from __future__ import annotations

from typing import Final

import msgspec

from libs.common.events.tables import KeyEntry
from services.router.core import openai, refusals
from services.router.core.budgets import Held, Short
from services.router.core.limits import Grant, Refused, rate_headers
from services.router.shell import metrics
from services.router.shell.engines.target import Cuttable, Target
from services.router.shell.limits.budgets import Budgets
from services.router.shell.request.gateway import Gateway
from services.router.shell.request.standing import Standing

SHORTER: Final = b"x-millrace-max-tokens: %d\r\n"  # Each answer ends there; its client would have let it go on.


class Entered(msgspec.Struct):
    """A request that runs: where, what it holds of the limits (None: nothing), what its answer says of them.

    `tokens_max` is how much each answer may have, where there is room for less than was asked for, or a budget that
    must know; `held` is what it holds of budgets.
    """

    standing: Standing
    target: Target
    grant: Grant | None = None
    headers: bytes = b""
    tokens_max: int | None = None
    held: Held | None = None


def enter(gateway: Gateway, request: Cuttable, *, key: KeyEntry, ask: openai.Ask, now_s: float) -> Entered:
    """Count ``request`` as running. Raises HttpRefusal; then it is not, and holds nothing."""
    standing = gateway.standings.enter(request, key, ask)
    target = standing.target
    try:
        if ask.adapter or not target.seats:
            _look_for_replicas(gateway, target, ask)
        grant, headers, tokens_max = None, b"", None
        if standing.limits:
            # By the loop's clock: a wall clock that is set back would give nothing back.
            now_ms, wanted = int(now_s * 1000), ask.reservation
            said = gateway.limiter.reserve(standing.limits, tokens=wanted, least=ask.least, now_ms=now_ms)
            if isinstance(said, Refused):
                raise _no_room(said)
            grant, headers = said, said.headers
            if grant.tokens < wanted:
                tokens_max = openai.clamped(ask, grant.tokens)
                headers += SHORTER % tokens_max
        entered = Entered(standing, target, grant, headers, tokens_max)
        if standing.has_budgets and gateway.budgets is not None:
            _within_budgets(gateway, gateway.budgets, entered, ask)
        return entered
    except refusals.HttpRefusal:
        gateway.table.leave(request, target.entry.endpoint_id)
        raise


def settle(gateway: Gateway, entered: Entered, ask: openai.Ask, *, prompt_tokens: int | None, completion: int) -> None:
    """It is over: count what it used, once.

    Where the engine never counted the prompt, our estimate stands against limits; a budget pays for what is billed.
    """
    grant, held, entered.grant, entered.held = entered.grant, entered.held, None, None
    if held is not None and gateway.budgets is not None:
        gateway.budgets.settle(held, tokens=(prompt_tokens or 0) + completion)
    if grant is not None:
        used = (ask.prompt_estimate if prompt_tokens is None else prompt_tokens) + completion
        gateway.limiter.settle(grant, tokens=used, now_ms=int(gateway.now_s() * 1000))


def _look_for_replicas(gateway: Gateway, target: Target, ask: openai.Ask) -> None:
    """Raises HttpRefusal if there is none, or none with that adapter, and none to wait for."""
    if not target.seats and not gateway.waiting.holds(target):
        raise refusals.no_replica()
    if ask.adapter and target.seats and not target.has_adapter(ask.adapter):
        raise refusals.model_not_found(ask.model)


def _no_room(said: Refused) -> refusals.HttpRefusal:
    metrics.note_limited(said.what)
    if said.what == "concurrency":
        return refusals.too_many_at_once(said.retry_after_s)
    return refusals.rate_limited(said.what, said.retry_after_s, headers=rate_headers(said))


def _within_budgets(gateway: Gateway, budgets: Budgets, entered: Entered, ask: openai.Ask) -> None:
    most = ask.most if entered.tokens_max is None else entered.tokens_max
    whole, prompt = openai.bound(ask, most), openai.bound(ask, 0)
    least = min(whole, prompt + ask.least - ask.prompt_estimate)
    said = budgets.reserve(entered.target.entry, entered.standing.key, tokens=whole, least=least)
    if isinstance(said, Short):
        settle(gateway, entered, ask, prompt_tokens=0, completion=0)
        metrics.note_limited("budget")
        raise refusals.budget_spent(said.budget, is_spent=said.is_spent)
    if said is not None:
        entered.held = said
        entered.tokens_max = most or None  # What was reserved is all that it may generate.
        if said.tokens < whole:
            entered.tokens_max = (said.tokens - prompt) // ask.choices
            rates = b"" if entered.grant is None else entered.grant.headers
            entered.headers = rates + SHORTER % entered.tokens_max
