"""The verbs on what is sold."""

from __future__ import annotations

from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.offers import (
    ModelView,
    OperatorTierView,
    TierView,
    model_view,
    operator_tier_view,
    tier_view,
)
from services.endpoint_api.shell.tenancy import Tenancy


class OfferVerbs:
    """What a tenant may choose from. All raise Forbidden for a missing scope."""

    def __init__(self, tenancy: Tenancy) -> None:
        self._tenancy = tenancy

    def tiers(self, caller: Caller) -> tuple[TierView, ...]:
        """The tiers that the caller's tenant may use."""
        caller.needs(Scope.READ)
        return tuple(tier_view(each) for each in self._tenancy.catalogue(caller).tiers)

    def catalogue(self, caller: Caller) -> tuple[OperatorTierView, ...]:
        """All tiers, with what they run on and need; for operators."""
        caller.needs(Scope.OPERATE)
        return tuple(map(operator_tier_view, self._tenancy.everything().tiers))

    def models(self, caller: Caller) -> tuple[ModelView, ...]:
        """The models that fit a tier that the caller's tenant may use."""
        caller.needs(Scope.READ)
        return tuple(model_view(each) for each in self._tenancy.catalogue(caller).models)
