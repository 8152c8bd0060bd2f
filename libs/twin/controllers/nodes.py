"""Nodes of a tenant cluster: they join, offer their GPUs a while later, and are drained before they leave."""

from __future__ import annotations

from typing import Final

from libs.twin import kinds
from libs.twin.cluster import Cluster
from libs.twin.objects import Json, is_terminating, name_of, set_condition
from libs.twin.options import NodeTypeOption, TwinOptions
from libs.twin.pods import GPU

TERMINATION: Final = "karpenter.sh/termination"  # Who deletes a node has it drained, and its claim given back.


def join(cluster: Cluster, claim: Json, option: NodeTypeOption, options: TwinOptions, now_ms: int) -> None:
    """A machine joined the cluster; its GPU stack is not up yet."""
    if cluster.store.find(kinds.NODES, "", name_of(claim)) is not None:
        return
    region = claim["spec"].get("properties", {}).get("region", "")
    size = {"cpu": str(option.cpus), "memory": f"{option.memory_gib}Gi", "pods": "110", "ephemeral-storage": "2Ti"}
    node: Json = {
        "metadata": {
            "name": name_of(claim),
            "finalizers": [TERMINATION],
            "labels": {
                "kubernetes.io/hostname": name_of(claim),
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": option.name,
                "vcluster.com/node-type": option.name,
                "vcluster.com/nodeclaim": name_of(claim),
                **({"topology.kubernetes.io/region": region} if region else {}),
            },
        },
        "spec": {
            "taints": claim["spec"].get("taints") or [],
            "providerID": f"{option.name.split('.')[0]}://{name_of(claim)}",
        },
        "status": {
            "capacity": dict(size),
            "allocatable": dict(size),
            "conditions": [],
            "nodeInfo": {
                "kubeletVersion": options.kubernetes_version,
                "osImage": "Ubuntu 24.04 LTS",
                "operatingSystem": "linux",
                "architecture": "amd64",
                "containerRuntimeVersion": "containerd://2.0.5",
                "kernelVersion": "6.8.0",
                "kubeProxyVersion": options.kubernetes_version,
                "machineID": name_of(claim),
                "systemUUID": name_of(claim),
                "bootID": name_of(claim),
            },
        },
    }
    for kind in ("MemoryPressure", "DiskPressure", "PIDPressure"):
        set_condition(node, kind, False, now_ms, reason=f"KubeletHasNo{kind}")
    set_condition(node, "Ready", True, now_ms, reason="KubeletReady", message="kubelet is posting ready status")
    cluster.store.create(kinds.NODES, node, now_ms)


def offer_gpus(cluster: Cluster, name: str, option: NodeTypeOption) -> None:
    """The GPU stack is up: driver loaded, device plugin registered, labels set."""
    node = cluster.store.find(kinds.NODES, "", name)
    if node is None or GPU in node["status"]["allocatable"]:
        return

    def change(fresh: Json) -> None:
        for key in ("capacity", "allocatable"):
            fresh["status"][key][GPU] = str(option.gpus)
        fresh["metadata"]["labels"].update(
            {
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.product": option.product,
                "nvidia.com/gpu.count": str(option.gpus),
            }
        )

    cluster.store.edit(kinds.NODES, node, change)


def drain(cluster: Cluster, name: str, *, force: bool) -> bool:
    """Cordon, evict, and remove the node once it is empty; by force, at once. True when the node is gone."""
    node = cluster.store.find(kinds.NODES, "", name)
    if node is None:
        return True
    cluster.cordon(node)
    left = cluster.pods_on(name)
    if left and not force:
        for each in left:
            if not is_terminating(each) and cluster.may_evict(each):
                cluster.rules.delete_pod(each)
        return False
    cluster.remove_node(node)
    return True


def silence(cluster: Cluster, name: str, now_ms: int) -> None:
    """The machine died without a word: what ran on it is over, and its control plane misses it."""

    def change(fresh: Json) -> None:
        set_condition(fresh, "Ready", False, now_ms, reason="NodeStatusUnknown", message="Kubelet stopped posting")

    def unready(fresh: Json) -> None:
        for kind in ("Ready", "ContainersReady"):
            set_condition(fresh, kind, False, now_ms, reason="NodeNotReady")

    cluster.kubelet.silent.add(name)
    cluster.store.edit(kinds.NODES, cluster.store.get(kinds.NODES, "", name), change)
    for each in cluster.pods_on(name):
        cluster.store.edit(kinds.PODS, each, unready)


def is_unwanted(cluster: Cluster, name: str) -> bool:
    """Whether somebody deleted the node inside its cluster."""
    node = cluster.store.find(kinds.NODES, "", name)
    return node is None or is_terminating(node)
