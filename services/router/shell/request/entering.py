"""Letting a request in: the endpoint that its key may use, and room within every limit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from libs.common.events.tables import KeyEntry
from services.router.core import openai, refusals
from services.router.core.budgets import Held, Short
from services.router.core.limits import Grant, Limit, Refused, rate_headers
from services.router.core.serving import Admitted, admit
from services.router.core.surface import ENGINE_PATHS
from services.router.shell import metrics
from services.router.shell.engines.table import Cuttable
from services.router.shell.engines.target import Target
from services.router.shell.limits.budgets import Budgets
from services.router.shell.request.gateway import Gateway


class Entered(msgspec.Struct):
    """A request that runs: where, what it holds of the limits (None: nothing), what its answer says of them.

    `tokens_max` is how much each answer may have, where there is room for less than was asked for, or a budget that
    must know; `held` is what it holds of budgets.
    """

    target: Target
    grant: Grant | None = None
    headers: bytes = b""
    tokens_max: int | None = None
    held: Held | None = None

    def admitted(self, key: KeyEntry, ask: openai.Ask, *, request_id: str, now_ms: int) -> Admitted:
        """Who asked what: the part of its bill that is known now."""
        return admit(
            self.target.entry,
            key,
            request_id=request_id,
            api=ask.api,
            now_ms=now_ms,
            adapter=ask.adapter or None,
            slices=None if self.held is None else self.held.names,
        )


def enter(gateway: Gateway, request: Cuttable, *, key: KeyEntry, ask: openai.Ask) -> Entered:
    """Count ``request`` as running. Raises HttpRefusal; then it is not, and holds nothing."""
    if key.models and ask.endpoint not in key.models:
        raise refusals.model_not_found(ask.model)
    target = gateway.table.enter(request, tenant_id=key.tenant_id, project_id=key.project_id, name=ask.endpoint)
    if target is None:
        raise refusals.model_not_found(ask.model)
    if target.entry.paused:
        raise refusals.endpoint_paused()
    try:
        if ask.api not in target.surfaces:
            raise refusals.not_of_this_model(ENGINE_PATHS[ask.api], (ENGINE_PATHS[each] for each in target.surfaces))
        if not target.seats and not gateway.waiting.holds(target):
            raise refusals.no_replica()
        if ask.adapter and target.seats and not target.has_adapter(ask.adapter):
            raise refusals.model_not_found(ask.model)
        terms = gateway.quotas.terms_of(target.entry)
        limits = terms.limits if key.concurrency is None else gateway.quotas.limits_for(target.entry, key)
        entered = _within_limits(gateway, target, limits, ask) if limits else Entered(target)
        if (terms.budgets or key.budget) and gateway.budgets is not None:
            _within_budgets(gateway, gateway.budgets, entered, key, ask)
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


def _within_limits(gateway: Gateway, target: Target, limits: Sequence[Limit], ask: openai.Ask) -> Entered:
    now_ms = int(gateway.now_s() * 1000)  # The loop's clock: a wall clock that is set back would give nothing back.
    said = gateway.limiter.reserve(limits, tokens=ask.reservation, least=ask.least, now_ms=now_ms)
    if isinstance(said, Refused):
        metrics.note_limited(said.what)
        if said.what == "concurrency":
            raise refusals.too_many_at_once(said.retry_after_s)
        raise refusals.rate_limited(said.what, said.retry_after_s, headers=rate_headers(said))
    headers, tokens_max = rate_headers(said), None
    if said.tokens < ask.reservation:
        tokens_max = openai.clamped(ask, said.tokens)
        headers += b"x-millrace-max-tokens: %d\r\n" % tokens_max
    return Entered(target, said, headers, tokens_max)


def _within_budgets(gateway: Gateway, budgets: Budgets, entered: Entered, key: KeyEntry, ask: openai.Ask) -> None:
    most = ask.most if entered.tokens_max is None else entered.tokens_max
    said = budgets.reserve(entered.target.entry, key, tokens=openai.bound(ask, most))
    if isinstance(said, Short):
        settle(gateway, entered, ask, prompt_tokens=0, completion=0)
        metrics.note_limited("budget")
        raise refusals.budget_spent(said.budget, is_spent=said.is_spent)
    if said is not None:
        entered.held = said
        entered.tokens_max = most or None  # What was reserved is all that it may generate.
