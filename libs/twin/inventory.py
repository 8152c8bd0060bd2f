"""Everything that exists in the world, for people and for tests that ask whether anything was left behind."""

from __future__ import annotations

from collections.abc import Mapping

from libs.twin import kinds
from libs.twin.cluster import Cluster
from libs.twin.controllers.instances import Tenant
from libs.twin.engines_port import Engines
from libs.twin.objects import Json, is_terminating, is_true, name_of, namespace_of, uid_of
from libs.twin.platform_rules import PREFIX
from libs.twin.pods import GPU, describe, is_ready
from libs.twin.store import Store

OURS = (
    kinds.DEPLOYMENTS,
    kinds.SERVICES,
    kinds.SECRETS,
    kinds.CONFIG_MAPS,
    kinds.VOLUME_CLAIMS,
    kinds.BUDGETS,
    kinds.NETWORK_POLICIES,
)


def take(store: Store, tenants: Mapping[tuple[str, str], Tenant], engines: Engines) -> dict[str, object]:
    """Projects, clusters, claims, nodes, objects, pods, caches and processes."""
    clusters = {key: each.cluster for key, each in sorted(tenants.items()) if each.cluster is not None}
    return {
        "projects": [name_of(each) for each in store.all(kinds.PROJECTS)],
        "clusters": [_cluster(each) for each in store.all(kinds.INSTANCES)],
        "claims": [_claim(each) for each in store.all(kinds.NODE_CLAIMS)],
        "nodes": [
            {
                "cluster": "/".join(key),
                "name": name_of(each),
                "ready": is_true(each, "Ready"),
                "gpus": int(each["status"]["allocatable"].get(GPU, 0)),
            }
            for key, cluster in clusters.items()
            for each in cluster.store.all(kinds.NODES)
        ],
        "objects": [
            {"cluster": "/".join(key), "kind": kind.kind, "name": describe(each)}
            for key, cluster in clusters.items()
            for kind in OURS
            for each in cluster.store.all(kind)
        ],
        "pods": [
            {
                "cluster": "/".join(key),
                "name": describe(each),
                "phase": each["status"].get("phase"),
                "ready": is_ready(each),
                "node": each["spec"].get("nodeName", ""),
                "address": each["status"].get("podIP", ""),
            }
            for key, cluster in clusters.items()
            for each in cluster.store.all(kinds.PODS)
        ],
        "caches": [each for key, cluster in clusters.items() for each in _caches("/".join(key), cluster)],
        "processes": [
            {"key": each.key, "pid": each.pid, "address": each.address, "port": each.port} for each in engines.running()
        ],
    }


def _caches(key: str, cluster: Cluster) -> list[Json]:
    """What simulated fetches left on nodes and claims that are there."""
    there = {uid_of(each): each for kind in (kinds.NODES, kinds.VOLUME_CLAIMS) for each in cluster.store.all(kind)}
    contents = cluster.kubelet.fetches.caches.contents()
    return [
        {"cluster": key, "name": name_of(there[uid]), "models": models}
        for uid, models in contents.items()
        if uid in there
    ]


def _cluster(instance: Json) -> Json:
    return {
        "project": namespace_of(instance).removeprefix(PREFIX),
        "name": name_of(instance),
        "phase": instance["status"].get("phase", ""),
        "deleting": is_terminating(instance),
    }


def _claim(claim: Json) -> Json:
    return {
        "project": namespace_of(claim).removeprefix(PREFIX),
        "name": name_of(claim),
        "cluster": claim["spec"].get("vClusterRef", ""),
        "type": claim["spec"].get("typeRef", ""),
        "phase": claim["status"].get("phase", ""),
        "deleting": is_terminating(claim),
    }
