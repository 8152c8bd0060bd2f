"""What we know of a vcluster.yaml (of the fields that we write) and of a template file: anything else is a mistake.

The product's own schema has hundreds of fields; a typo in one that we never meant to write would pass there.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.capacity_manager.core.cluster_template import App, Recipe, Schedule
from services.capacity_manager.core.tenancy import Tenancy
from services.capacity_manager.core.vnode import Image

Label = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
NodeType = Annotated[str, Field(pattern=r"^[a-z0-9-]+\.[a-z0-9.-]+$")]
Version = Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
Count = Annotated[str, Field(pattern=r"^[0-9]+$")]
Cron = Annotated[str, Field(pattern=r"^[0-9*/,-]+( [0-9*/,-]+){4}$")]
Level = Literal["privileged", "baseline", "restricted"]

VALUED: Final = frozenset({"In", "NotIn", "Gt", "Lt"})


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _AppFile(_Strict):
    name: Name
    namespace: Name
    version: str = ""


class _ImageFile(_Strict):
    kernel: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+")] = ""
    containerd: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+")] = ""


class _Nodes(_Strict):
    provider: Name
    node_type: NodeType
    max: int = Field(ge=1, le=1000)
    burst_max: int = Field(default=0, ge=0, le=1000)
    properties: dict[str, Label] = {}
    labels: dict[str, Label] = {}
    gpu_taint: bool = True
    image: _ImageFile = _ImageFile()


class _SnapshotsFile(_Strict):
    schedule: Cron
    timezone: str = "UTC"
    keep_days: int = Field(default=30, ge=1, le=365)
    keep_max: int = Field(default=30, ge=1, le=1000)
    url: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9./-]+$")]
    secret: Name
    secret_namespace: Name

    def schedule_of(self) -> Schedule:
        """As the core has it."""
        return Schedule(
            cron=self.schedule,
            timezone=self.timezone,
            keep_days=self.keep_days,
            keep_max=self.keep_max,
            url=self.url,
            secret=self.secret,
            secret_namespace=self.secret_namespace,
        )


class RecipeFile(_Strict):
    """One file of `templates/`."""

    name: Name
    version: Version
    tenancy: Tenancy
    chart: Version
    nodes: _Nodes
    control_planes: int = Field(default=1, ge=1, le=7)
    vpn: bool = True
    pod_security: Level = "baseline"
    apps: tuple[_AppFile, ...] = ()
    snapshots: _SnapshotsFile | None = None

    def recipe(self) -> Recipe:
        """As the core has it."""
        return Recipe(
            name=self.name,
            version=self.version,
            tenancy=self.tenancy,
            chart=self.chart,
            provider=self.nodes.provider,
            node_type=self.nodes.node_type,
            nodes_max=self.nodes.max,
            burst_max=self.nodes.burst_max,
            properties=self.nodes.properties,
            node_labels=self.nodes.labels,
            control_planes=self.control_planes,
            vpn=self.vpn,
            gpu_taint=self.nodes.gpu_taint,
            pod_security=self.pod_security,
            apps=tuple(App(each.name, each.namespace, each.version) for each in self.apps),
            snapshots=self.snapshots.schedule_of() if self.snapshots else None,
            image=Image(self.nodes.image.kernel, self.nodes.image.containerd),
        )


class _Enabled(_Strict):
    enabled: bool


class _Etcd(_Strict):
    embedded: _Enabled


class _BackingStore(_Strict):
    etcd: _Etcd


class _HighAvailability(_Strict):
    replicas: int = Field(ge=1)


class _StatefulSet(_Strict):
    highAvailability: _HighAvailability  # noqa: N815  # The file's own spelling, here and below.


class _ControlPlane(_Strict):
    backingStore: _BackingStore  # noqa: N815
    statefulSet: _StatefulSet  # noqa: N815


class _Requirement(_Strict):
    property: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]  # The docs' NotExists is refused.
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_values_if_it_needs_them(self) -> Self:
        if (self.operator in VALUED) != bool(self.values):
            raise ValueError(f"operator {self.operator} with {len(self.values)} values")
        return self


class _Taint(_Strict):
    key: str
    value: str
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class _Pool(_Strict):
    name: Name
    nodeTypeSelector: tuple[_Requirement, ...] = Field(min_length=1)  # noqa: N815
    nodeLabels: dict[str, Label] = {}  # noqa: N815
    taints: tuple[_Taint, ...] = ()


class _Static(_Pool):
    quantity: int = Field(ge=0, strict=True)  # A text would be refused by the product.


class _Limits(_Strict):
    nodes: Count


class _Disruption(_Strict):
    consolidationPolicy: Literal["WhenEmpty"]  # noqa: N815  # The other one moves pods that hold a model.
    consolidateAfter: str  # noqa: N815


class _Dynamic(_Pool):
    limits: _Limits
    disruption: _Disruption


class _AutoNodes(_Strict):
    provider: Name
    properties: dict[str, Label] = {}
    static: tuple[_Static, ...] = ()
    dynamic: tuple[_Dynamic, ...] = ()


class _PrivateNodes(_Strict):
    enabled: Literal[True]
    vpn: _Enabled
    autoNodes: tuple[_AutoNodes, ...] = Field(min_length=1)  # noqa: N815

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        pools = [pool.name for auto in self.autoNodes for pool in (*auto.static, *auto.dynamic)]
        providers = [auto.provider for auto in self.autoNodes]
        if len(set(pools)) != len(pools) or len(set(providers)) != len(providers):
            raise ValueError("pools and providers have a name each, once")
        return self


class _Deploy(_Strict):
    metricsServer: _Enabled  # noqa: N815


class _Policies(_Strict):
    podSecurityStandard: Level  # noqa: N815


class _Credential(_Strict):
    secretName: Name  # noqa: N815
    secretNamespace: Name  # noqa: N815


class _Bucket(_Strict):
    url: str
    credential: _Credential


class _Storage(_Strict):
    type: Literal["s3"]
    s3: _Bucket


class _Retention(_Strict):
    period: int = Field(ge=1)
    maxSnapshots: int = Field(ge=1)  # noqa: N815


class _AutoSnapshots(_Strict):
    schedule: Cron
    timezone: str
    retention: _Retention
    storage: _Storage


class _Snapshots(_Strict):
    auto: _AutoSnapshots


class VclusterYaml(_Strict):
    """A whole file. There is no `sync`: private nodes switch it off, and the product ignores or refuses it."""

    controlPlane: _ControlPlane  # noqa: N815
    deploy: _Deploy
    policies: _Policies
    privateNodes: _PrivateNodes  # noqa: N815
    snapshots: _Snapshots | None = None
