"""What the service needs from outside, as it needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.common.clock import Clock
from libs.common.reconciler import World
from libs.common.store.port import Store
from libs.common.units import SECOND_MS
from services.runtime_deployer.core.caches import Cache, CacheSeen, Label
from services.runtime_deployer.core.observed import Observed
from services.runtime_deployer.core.plan import Action
from services.runtime_deployer.core.state import Runtime
from services.runtime_deployer.core.templates import Template
from services.runtime_deployer.core.weights import Weights

Caches = World[Cache, CacheSeen, Label]
TenantClusters = World[Runtime, Observed, Action]


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that `build` joins to the core. `templates` is keyed by `<name>@<version>`, `weights` by digest."""

    store: Store
    clock: Clock
    clusters: TenantClusters
    caches: Caches
    templates: Mapping[str, Template]
    weights: Mapping[str, Weights] = field(default_factory=dict)
    resync_ms: int = 5 * SECOND_MS
