"""The machines behind owned metal: a BareMetalHost each, on the cluster that its provider names.

Which of them a claim has is decided when the claim gets its type; the rest is read off the claim when somebody asks.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

from libs.twin import kinds
from libs.twin.answers import Response, answer, no_such_path, not_found
from libs.twin.objects import Json, is_true, name_of, namespace_of, uid_of
from libs.twin.options import NodeTypeOption, TwinOptions
from libs.twin.store import Change

CLUSTER: Final = "loft-cluster"
NAMESPACE: Final = "metal3-system"
PREFIX: Final = f"/kubernetes/cluster/{CLUSTER}"
COLLECTION: Final = f"/apis/metal3.io/v1alpha1/namespaces/{NAMESPACE}/baremetalhosts"
PER_RACK: Final = 4
DEPROVISION_MS: Final = 60_000  # Wiping disks, before it is available again.


@dataclass(slots=True)
class _Host:
    claim: Json | None = None
    free_ms: int = 0


def selector_of(option: NodeTypeOption) -> Json:
    """How a node type chooses its hosts."""
    return {"matchLabels": labels_of(option)}


def labels_of(option: NodeTypeOption) -> dict[str, str]:
    """The labels that hosts of a node type have."""
    return {"gpu-model": option.name.split(".", 1)[1].removeprefix("gpu-"), "gpu-count": str(option.gpus)}


class Hosts:
    """All machines of providers of owned metal."""

    def __init__(self, options: TwinOptions) -> None:
        self._options = options
        self._types = {each.name: each for each in options.node_types if each.name.startswith("metal3.")}
        self._hosts = {name: [_Host() for _ in range(each.capacity)] for name, each in self._types.items()}
        self._of_claim: dict[str, int] = {}
        self._free = {name: [(0, number) for number in range(len(each))] for name, each in self._hosts.items()}

    def note(self, change: Change, now_ms: int) -> None:
        """Take in a change of a node claim: it gets a machine with its type, and gives it back when it goes."""
        claim = change.new
        node_type = claim["spec"].get("typeRef") or ""
        if node_type not in self._hosts:
            return
        free, number = self._free[node_type], self._of_claim.get(uid_of(claim))
        if change.verb == "DELETED":
            if number is not None:
                free_ms = now_ms + self._options.scaled(DEPROVISION_MS)
                self._hosts[node_type][self._of_claim.pop(uid_of(claim))] = _Host(free_ms=free_ms)
                heapq.heappush(free, (free_ms, number))
            return
        if number is None:
            if not free:
                return  # More claims than machines: a limit was lowered under them.
            number = self._of_claim[uid_of(claim)] = heapq.heappop(free)[1]
        self._hosts[node_type][number].claim = claim

    def request(self, method: str, path: str, now_ms: int) -> Response:
        """Answer a read of BareMetalHosts. Raises ApiError."""
        if method != "GET" or not path.startswith(COLLECTION):
            raise no_such_path()
        found = [
            _shown(self._types[name], number, host, now_ms)
            for name, hosts in sorted(self._hosts.items())
            for number, host in enumerate(hosts)
        ]
        wanted = path.removeprefix(COLLECTION).strip("/")
        if not wanted:
            return answer(
                {"kind": "BareMetalHostList", "apiVersion": "metal3.io/v1alpha1", "metadata": {}, "items": found}
            )
        one = next((each for each in found if name_of(each) == wanted), None)
        if one is None:
            raise not_found("baremetalhosts", wanted, "metal3.io")
        return answer(one)


def _shown(option: NodeTypeOption, number: int, host: _Host, now_ms: int) -> Json:
    state = _state(host, now_ms)
    consumer = (
        {"kind": kinds.NODE_CLAIMS.kind, "namespace": namespace_of(host.claim), "name": name_of(host.claim)}
        if host.claim is not None
        else None
    )
    is_on = state != "available"  # One that waits for work is powered off.
    address = f"redfish://bmc-{option.name.replace('.', '-')}-{number}/redfish/v1/Systems/1"
    return {
        "apiVersion": "metal3.io/v1alpha1",
        "kind": "BareMetalHost",
        "metadata": {
            "name": f"{option.name.replace('.', '-')}-{number}",
            "namespace": NAMESPACE,
            "labels": {**labels_of(option), "rack": f"r{number // PER_RACK + 1}", "datacenter": option.regions[0]},
        },
        "spec": {
            "online": is_on,
            "bmc": {"address": address, "credentialsName": f"bmc-{number}"},
            **({"consumerRef": consumer} if consumer else {}),
        },
        "status": {
            "operationalStatus": "OK",
            "errorType": "",
            "errorMessage": "",
            "poweredOn": is_on,
            "provisioning": {"state": state},
        },
    }


def _state(host: _Host, now_ms: int) -> str:
    if host.claim is None:
        return "deprovisioning" if now_ms < host.free_ms else "available"
    return "provisioned" if is_true(host.claim, "Provisioned") else "provisioning"
