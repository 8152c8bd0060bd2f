"""What an operator may set; each as ``MILLRACE_<NAME>``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from libs.common.settings import CommonSettings
from libs.common.units import SECOND_MS
from services.capacity_manager.core.cluster_template import Recipe
from services.capacity_manager.core.decide import Rules
from services.capacity_manager.core.orphans import Caution
from services.capacity_manager.core.pools import PoolRules
from services.capacity_manager.core.tenancy import Tenancy
from services.capacity_manager.core.tiers import TierSight
from services.capacity_manager.core.vnode import Sandboxes
from services.capacity_manager.shell.templates import DIRECTORY


class Settings(CommonSettings):
    """Settings of capacity-manager."""

    admin_port: int = 8702
    platform_url: str = Field(description="Base URL of vCluster Platform, https unless it is the twin.")
    platform_key_file: Path = Field(description="File with the access key; read for each request, so it can rotate.")
    platform_ca_file: Path | None = None  # A default install signs its own certificate.
    platform_connect_s: float = 2.0  # reliability.md 3.4.
    platform_read_s: float = 10.0  # reliability.md 3.4.
    catalogue_dir: Path | None = None  # With it, tiers are held against what the Platform has, at the start.
    templates_dir: Path = DIRECTORY  # Cluster templates that we publish; an operator's own stand on the Platform.
    confirm_gone_s: float = Field(default=30.0, gt=0)  # reliability.md I17: lists lag, and a 404 may come early.
    quota_retry_s: float = Field(default=5.0, gt=0)  # How late quota that was given back is noticed by who waits.
    gpus_per_tenant_max: int = Field(default=64, ge=0)  # Of each node type; a quota of the Platform can't say GPUs.
    installation: str = "millrace"  # Marks what we make on the Platform; what has another mark is never collected.
    orphan_grace_s: float = Field(
        default=900.0, gt=0
    )  # So long whoever wants it may take to say so, also after a start.
    orphans_per_pass_max: int = Field(default=3, ge=0)  # A mistake of ours must be noticed before it is everywhere.

    pool_grace_s: float = Field(default=600.0, gt=0)  # A cluster boots for a minute; an hour of it empty costs little.

    def pools(self, tiers: Sequence[TierSight], recipes: Iterable[Recipe] = ()) -> PoolRules:
        """How clusters that endpoints share are kept."""
        return PoolRules(
            confirm_gone_ms=self.rules().confirm_gone_ms,
            grace_ms=max(1, round(self.pool_grace_s * SECOND_MS)),
            warm={each.name: each.warm for each in tiers},
            sandboxes=Sandboxes(
                tiers=frozenset(each.name for each in tiers if each.tenancy == Tenancy.VNODE),
                images={f"{each.name}@{each.version}": each.image for each in recipes},
            ),
        )

    def caution(self) -> Caution:
        """How carefully what seems to be nobody's is collected."""
        return Caution(
            installation=self.installation,
            per_pass_max=self.orphans_per_pass_max,
            grace_ms=round(self.orphan_grace_s * SECOND_MS),
        )

    def rules(self, tiers: Iterable[TierSight] = ()) -> Rules:
        """The part that decisions are made by."""
        return Rules(
            gpus_per_tenant_max=self.gpus_per_tenant_max,
            confirm_gone_ms=max(1, round(self.confirm_gone_s * SECOND_MS)),
            quota_retry_ms=max(1, round(self.quota_retry_s * SECOND_MS)),
            warm={each.name: each.warm for each in tiers},
        )
