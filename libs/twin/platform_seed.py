"""What a Platform holds before anybody comes: node providers, node types and cluster templates."""

from __future__ import annotations

from typing import Final

from libs.twin import hosts, kinds
from libs.twin.objects import Json
from libs.twin.options import NodeTypeOption, TwinOptions
from libs.twin.store import Store

VALUES: Final = """\
controlPlane:
  backingStore: {etcd: {embedded: {enabled: true}}}
privateNodes:
  enabled: true
  autoNodes:
    - provider: %(provider)s
      properties: {region: {{ .Values.loft.cluster }}}
      static:
        - name: gpu
          quantity: {{ .Values.gpuQuantity }}
          nodeTypeSelector:
            - property: vcluster.com/node-type
              operator: In
              values: [ {{ .Values.nodeType }} ]
          taints: [{key: nvidia.com/gpu, value: present, effect: NoSchedule}]
"""
TEMPLATES: Final = {"inference-h100": ("metal3.gpu-h100", 64), "inference-l40s": ("terraform.gpu-l40s", 64)}


def seed(store: Store, options: TwinOptions, now_ms: int) -> None:
    """Create them."""
    for provider in sorted({each.name.split(".")[0] for each in options.node_types}):
        is_metal = provider == "metal3"
        spec: Json = {
            "displayName": provider,
            _block(provider): {
                **({"clusterRef": {"cluster": hosts.CLUSTER, "namespace": hosts.NAMESPACE}} if is_metal else {}),
                "nodeTypes": [
                    {
                        "name": each.name.split(".", 1)[1],
                        "resources": _resources(each),
                        **({"bareMetalHosts": {"selector": hosts.selector_of(each)}} if is_metal else {}),
                    }
                    for each in options.node_types
                    if each.name.startswith(f"{provider}.")
                ],
            },
        }
        status: Json = {"phase": "Available", "conditions": []}
        store.create(kinds.NODE_PROVIDERS, {"metadata": {"name": provider}, "spec": spec, "status": status}, now_ms)
    for each in options.node_types:
        store.create(kinds.NODE_TYPES, _node_type(each), now_ms)
    for name, (node_type, nodes_max) in TEMPLATES.items():
        store.create(kinds.TEMPLATES, _template(name, node_type, nodes_max), now_ms)


def _block(provider: str) -> str:
    return provider if provider in {"metal3", "terraform", "bcm", "kubeVirt", "clusterAPI"} else "terraform"


def _resources(option: NodeTypeOption) -> Json:
    return {"cpu": str(option.cpus), "memory": f"{option.memory_gib}Gi", "nvidia.com/gpu": str(option.gpus)}


def _node_type(option: NodeTypeOption) -> Json:
    cost = 10 * option.cpus + 2 * option.memory_gib + 10_000 * option.gpus
    return {
        "metadata": {"name": option.name},
        "spec": {
            "displayName": option.name,
            "providerRef": option.name.split(".")[0],
            "resources": _resources(option),
            "cost": cost,
            "properties": {
                "vcluster.com/node-type": option.name,
                "node.kubernetes.io/instance-type": option.name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/zone": "global",
                "karpenter.sh/capacity-type": "on-demand",
                "region": ",".join(option.regions),
                **option.properties,
            },
        },
        "status": {
            "phase": "Available",
            "cost": cost,
            "capacity": {"total": option.capacity, "claimed": 0},
            "conditions": [],
        },
    }


def _template(name: str, node_type: str, nodes_max: int) -> Json:
    parameters = [
        {"variable": "gpuQuantity", "type": "number", "defaultValue": "1", "min": 0, "max": nodes_max},
        {"variable": "nodeType", "type": "string", "defaultValue": node_type},
    ]
    template = {
        "pro": {"enabled": True},
        "helmRelease": {"chart": {"version": "0.37.2"}, "values": VALUES % {"provider": node_type.split(".")[0]}},
    }
    version = {"version": "1.0.0", "parameters": parameters, "template": template}
    return {"metadata": {"name": name}, "spec": {"displayName": name, "versions": [version]}}
