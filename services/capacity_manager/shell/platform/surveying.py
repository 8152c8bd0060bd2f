"""The Platform at a glance: one list of metadata per kind, however many claims there are. A hint, never a proof."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from libs.common.ids import EndpointId, ProjectId, TenantId
from services.capacity_manager.core.holdings import NodeClass
from services.capacity_manager.core.orphans import Found, PoolStanding, Standing, Survey
from services.capacity_manager.core.pools import PoolFound
from services.capacity_manager.core.state import Machines
from services.capacity_manager.core.tenancy import pool_id
from services.capacity_manager.shell.platform import labels, readings, shares
from services.capacity_manager.shell.platform.client import PlatformClient
from services.capacity_manager.shell.platform.fleet import read_fleet

Json = dict[str, Any]

GROUP: Final = "/kubernetes/management/apis/management.loft.sh/v1"


class Surveyor:
    """Takes surveys, and looks closer at what one found."""

    def __init__(self, client: PlatformClient, prefix: Callable[[], str]) -> None:
        self._client = client
        self._prefix = prefix

    def survey(self) -> Survey:
        """What stands, and a mark for each endpoint's part of it. Raises Unavailable if any list fails."""
        projects = {_name(each): _mark(each) for each in self._client.metadata(f"{GROUP}/projects")}
        claims = _by_cluster(self._client.metadata(f"{GROUP}/nodeclaims"))
        standing: list[Standing] = []
        pools: list[PoolStanding] = []
        marks: dict[str, str] = {}
        for each in self._client.metadata(f"{GROUP}/virtualclusterinstances"):
            namespace, project = _namespace(each), _namespace(each).removeprefix(self._prefix())
            theirs = labels.of(each)
            endpoint = theirs.get(labels.ENDPOINT, "")
            if theirs.get(labels.MANAGED_BY) != labels.MILLRACE:
                continue
            parts = (claims.get((namespace, _name(each)), ()), claims.get((namespace, ""), ()))
            mark = f"{_version(each)}|{projects.get(project, '')}|{parts}"
            if endpoint:
                standing.append(_standing(each, theirs, project))
                marks[endpoint] = mark
            elif theirs.get(labels.POOL) == labels.SHARED:
                pools.append(_pool(each, theirs, project, mark))
                marks |= dict.fromkeys(pools[-1].sharers, mark)
        return Survey(tuple(standing), marks, tuple(pools))

    def classes(self) -> tuple[NodeClass, ...]:
        """Every node type, by name. Raises Unavailable."""
        return read_fleet(self._client)

    def pool_found(self, each: PoolStanding) -> PoolFound | None:
        """A closer look at a shared cluster; None if it is there no more."""
        instance = self._standing(each.project, each.name, each.uid)
        if instance is None:
            return None
        theirs, (machines, cost) = labels.of(instance), self._machines(instance)
        return PoolFound(
            uid=each.uid,
            project=each.project,
            cluster=each.name,
            tenant_id=each.tenant_id,
            project_id=each.project_id,
            tier=theirs.get(labels.TIER, ""),
            region=theirs.get(labels.REGION, ""),
            node_type=machines.node_type,
            gpus_per_node=machines.gpus_per_node,
            node_cost=cost,
        )

    def found(self, each: Standing) -> Found | None:
        """A closer look at a cluster; None if it is there no more."""
        instance = self._standing(each.project, each.name, each.uid)
        if instance is None:
            return None
        machines, _ = self._machines(instance)
        return Found(
            tenant_id=each.tenant_id,
            project_id=each.project_id,
            uid=each.uid,
            node_type=machines.node_type,
            gpus_per_node=machines.gpus_per_node,
        )

    def _standing(self, project: str, name: str, uid: str) -> Json | None:
        path = f"{GROUP}/namespaces/{self._prefix()}{project}/virtualclusterinstances"
        instance = self._client.get(path, name)
        return instance if instance is not None and instance["metadata"].get("uid") == uid else None

    def _machines(self, instance: Json) -> tuple[Machines, int]:
        """What its nodes are, and what one of them is rated at."""
        node_type = str(readings.parameters(instance).get(readings.NODE_TYPE) or "")
        machine = self._client.get(f"{GROUP}/nodetypes", node_type) if node_type else None
        return Machines(node_type, readings.gpus_of(machine)), readings.cost_of(machine)


def _standing(each: Json, theirs: Mapping[str, str], project: str) -> Standing:
    return Standing(
        endpoint_id=EndpointId(theirs[labels.ENDPOINT]),
        tenant_id=TenantId(theirs.get(labels.TENANT, "")),
        project_id=ProjectId(theirs.get(labels.PROJECT, "")),
        installation=theirs.get(labels.INSTALLATION, ""),
        project=project,
        name=_name(each),
        uid=str(each["metadata"].get("uid", "")),
        created_at_ms=round(datetime.fromisoformat(each["metadata"]["creationTimestamp"]).timestamp() * 1000),
        is_deleting=bool(each["metadata"].get("deletionTimestamp")),
    )


def _pool(each: Json, theirs: Mapping[str, str], project: str, mark: str) -> PoolStanding:
    return PoolStanding(
        id=pool_id(project=project, cluster=_name(each)),
        project=project,
        name=_name(each),
        uid=str(each["metadata"].get("uid", "")),
        tenant_id=TenantId(theirs.get(labels.TENANT, "")),
        project_id=ProjectId(theirs.get(labels.PROJECT, "")),
        installation=theirs.get(labels.INSTALLATION, ""),
        is_deleting=bool(each["metadata"].get("deletionTimestamp")),
        sharers=tuple(EndpointId(name) for name in sorted(shares.of(each))),
        mark=mark,
    )


def _by_cluster(claims: Iterable[Json]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What is told of node claims, by namespace and cluster: they are called ``<cluster>-<letters>``.

    One that is called otherwise may be anybody's in its namespace, so it counts for all there.
    """
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for each in claims:
        cluster, dash, _ = _name(each).rpartition("-")
        found[_namespace(each), cluster if dash else ""].append(f"{_name(each)}:{_version(each)}")
    return {key: tuple(sorted(each)) for key, each in found.items()}


def _mark(project: Json) -> str:
    """Of a project only what we or an operator write: its counters move with every cluster in it."""
    metadata = project["metadata"]
    if "generation" not in metadata:
        return _version(project)
    text = repr((metadata["generation"], sorted(labels.of(project).items()), metadata.get("deletionTimestamp")))
    return f"{metadata.get('uid')}:{zlib.crc32(text.encode())}"


def _version(thing: Json) -> str:
    return f"{thing['metadata'].get('uid')}:{thing['metadata'].get('resourceVersion')}"


def _name(thing: Json) -> str:
    return str(thing["metadata"]["name"])


def _namespace(thing: Json) -> str:
    return str(thing["metadata"].get("namespace", ""))
