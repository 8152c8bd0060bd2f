"""What the requests of one key for one endpoint have in common: found once, and kept until any of it changes.

Whether the key may use the model, where that is, whether it serves this call and under which limits: all of it follows
from the key's entry, the table of routes and the quotas. Whoever changes one of these makes another edition of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from libs.common.events.tables import KeyEntry
from services.router.core import openai, refusals
from services.router.core.limits import Limit
from services.router.core.serving import Row, admit, owes_generated
from services.router.core.surface import ENGINE_PATHS, Api
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Cuttable, Target
from services.router.shell.limits.quotas import QuotaTable

KEPT_MAX: Final = 4096  # Keys at endpoints; beyond, all are found anew.


class Standing(msgspec.Struct, frozen=True):
    """What holds for a key at an endpoint, and the editions that say so."""

    key: KeyEntry
    routes: object
    quotas: object
    target: Target
    limits: Sequence[Limit]
    has_budgets: bool
    owes_generated: bool
    kind: Row  # Of their bills: a row of no request.


class Standings:
    """Those that were found. Called from the event loop alone; what they follow from changes in any thread."""

    def __init__(self, table: RouteTable, quotas: QuotaTable) -> None:
        self._table = table
        self._quotas = quotas
        self._kept: dict[tuple[str, str, Api], Standing] = {}
        self._routes: object = None  # The edition of all of them.

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def enter(self, request: Cuttable, key: KeyEntry, ask: openai.Ask) -> Standing:
        """Count ``request`` as running, and say how its key stands. Raises HttpRefusal; then it is not counted."""
        name = (key.key_id, ask.endpoint, ask.api)
        found = self._kept.get(name)
        if (
            found is None
            or found.key is not key
            or found.quotas is not self._quotas.edition
            or not self._table.enter_again(request, found.target, found.routes)
        ):
            found = self._find(request, key, ask)
            if found.routes is not self._routes or len(self._kept) >= KEPT_MAX:
                self._routes = found.routes
                self._kept.clear()  # Of another edition none is good, and some may keep what is gone.
            self._kept[name] = found
        return found

    def _find(self, request: Cuttable, key: KeyEntry, ask: openai.Ask) -> Standing:
        """The editions are read before what they are editions of: a change meanwhile has it found anew."""
        routes, quotas = self._table.edition, self._quotas.edition
        if key.models and ask.endpoint not in key.models:
            raise refusals.model_not_found(ask.model)
        target = self._table.enter(request, tenant_id=key.tenant_id, project_id=key.project_id, name=ask.endpoint)
        if target is None:
            raise refusals.model_not_found(ask.model)
        entry = target.entry
        if entry.paused:
            raise refusals.endpoint_paused()
        if ask.api not in target.surfaces:
            self._table.leave(request, entry.endpoint_id)
            raise refusals.not_of_this_model(ENGINE_PATHS[ask.api], (ENGINE_PATHS[each] for each in target.surfaces))
        return Standing(
            key=key,
            routes=routes,
            quotas=quotas,
            target=target,
            limits=self._quotas.limits_for(entry, key),
            has_budgets=bool(key.budget or self._quotas.terms_of(entry).budgets),
            owes_generated=owes_generated(entry),
            kind=admit(entry, key_id=key.key_id, request_id="", api=ask.api, now_ms=0),
        )
