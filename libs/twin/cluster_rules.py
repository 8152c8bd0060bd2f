"""What a Kubernetes API server fills in, refuses, and does on delete, for the kinds that the twin serves."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from libs.twin import kinds
from libs.twin.answers import forbidden, invalid, not_found
from libs.twin.controllers.quotas import Quotas
from libs.twin.kinds import Kind
from libs.twin.objects import Json, is_terminating, labels_of, name_of, namespace_of
from libs.twin.pods import GPU
from libs.twin.selectors import selector_matches
from libs.twin.store import Store

DEFAULT_GRACE_S: Final = 30
FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"


class ClusterRules:
    """The rules of one tenant cluster's API server."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms
        self.quotas = Quotas(store)

    def default(self, kind: Kind, thing: Json) -> None:
        """Fill in, in place, what a writer may leave out."""
        if kind in DEFAULTS:
            DEFAULTS[kind](thing)

    def admit(self, kind: Kind, old: Json | None, new: Json) -> None:
        """Raise ApiError for a create (`old` is None) or a change that is not allowed."""
        if old is None and kind.namespaced:
            self._check_namespace(kind, new)
        if kind is kinds.PODS:
            _check_pod(kind, new, new.get("spec") or {}, "spec")
            if old is None:
                self.quotas.admit(new)
        if kind is kinds.DEPLOYMENTS:
            _check_deployment(old, new)

    def delete(self, kind: Kind, thing: Json, options: Json) -> Json | None:
        """Delete; gives the object if it lingers."""
        if kind is kinds.PODS:
            return self.delete_pod(thing, options.get("gracePeriodSeconds"))
        if kind is kinds.NAMESPACES:
            return self._delete_namespace(thing)
        finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(options.get("propagationPolicy", ""))
        if finalizer is not None and not is_terminating(thing):
            thing = self._store.edit(
                kind, thing, lambda fresh: fresh["metadata"].setdefault("finalizers", []).append(finalizer)
            )
        return self._store.delete(kind, thing, self._now_ms())

    def delete_pod(self, pod: Json, grace_s: int | None = None) -> Json | None:
        """Delete a pod: with its grace if a kubelet has it, else at once."""
        if grace_s is None:
            grace_s = int(pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S))
        if not pod["spec"].get("nodeName") or grace_s == 0:
            if is_terminating(pod) and not pod["metadata"].get("finalizers"):
                self._store.remove(kinds.PODS, pod)
                return None
            return self._store.delete(kinds.PODS, pod, self._now_ms())
        return self._store.delete(kinds.PODS, pod, self._now_ms(), grace_s=grace_s)

    def _delete_namespace(self, namespace: Json) -> Json:
        def terminate(fresh: Json) -> None:
            fresh["status"] = {**fresh.get("status", {}), "phase": "Terminating"}

        self._store.delete(kinds.NAMESPACES, namespace, self._now_ms(), grace_s=1)
        return self._store.edit(kinds.NAMESPACES, namespace, terminate)

    def _check_namespace(self, kind: Kind, thing: Json) -> None:
        name = namespace_of(thing)
        namespace = self._store.find(kinds.NAMESPACES, "", name)
        if namespace is None:
            raise not_found("namespaces", name)
        if is_terminating(namespace):
            raise forbidden(
                f'{kind.plural} "{name_of(thing)}" is forbidden: unable to create new content in namespace {name} '
                "because it is being terminated",
                {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]},
            )


def _check_pod(kind: Kind, thing: Json, spec: Json, where: str) -> None:
    containers = spec.get("containers")
    name = name_of(thing)
    if not containers:
        raise invalid(kind.kind, name, [(f"{where}.containers", "FieldValueRequired", "Required value")], kind.group)
    for part in ("containers", "initContainers"):
        for place, each in enumerate(spec.get(part) or ()):
            for field in ("name", "image"):
                if not each.get(field):
                    cause = (f"{where}.{part}[{place}].{field}", "FieldValueRequired", "Required value")
                    raise invalid(kind.kind, name, [cause], kind.group)
            for field in ("limits", "requests"):
                gpus = str(((each.get("resources") or {}).get(field) or {}).get(GPU, "0"))
                if not gpus.isdigit():
                    cause = (
                        f"{where}.{part}[{place}].resources.{field}[{GPU}]",
                        "FieldValueInvalid",
                        f"Invalid value: {gpus!r}",
                    )
                    raise invalid(kind.kind, name, [cause], kind.group)


def _check_deployment(old: Json | None, new: Json) -> None:
    kind, name, spec = kinds.DEPLOYMENTS, name_of(new), new.get("spec") or {}
    selector, template = spec.get("selector") or {}, spec.get("template") or {}
    causes: list[tuple[str, str, str]] = []
    if not selector:
        causes.append(("spec.selector", "FieldValueRequired", "Required value"))
    elif not selector_matches(selector, labels_of({"metadata": template.get("metadata") or {}})):
        why = "Invalid value: `selector` does not match template `labels`"
        causes.append(("spec.template.metadata.labels", "FieldValueInvalid", why))
    if not isinstance(spec.get("replicas"), int) or spec["replicas"] < 0:
        why = f"Invalid value: {spec.get('replicas')}: must be greater than or equal to 0"
        causes.append(("spec.replicas", "FieldValueInvalid", why))
    if old is not None and old["spec"]["selector"] != selector:
        causes.append(("spec.selector", "FieldValueInvalid", "Invalid value: field is immutable"))
    if causes:
        raise invalid(kind.kind, name, causes, kind.group)
    _check_pod(kind, new, template.get("spec") or {}, "spec.template.spec")


def _default_pod_spec(spec: Json) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", DEFAULT_GRACE_S)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for each in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        each.setdefault("imagePullPolicy", "IfNotPresent")
        each.setdefault("resources", {})
        for port in each.get("ports") or ():
            port.setdefault("protocol", "TCP")
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            if each.get(probe):
                for key, value in PROBE_DEFAULTS.items():
                    each[probe].setdefault(key, value)


def _default_pod(pod: Json) -> None:
    _default_pod_spec(pod.setdefault("spec", {}))
    pod["spec"].setdefault("serviceAccountName", "default")
    pod.setdefault("status", {"phase": "Pending", "qosClass": "Burstable"})


def _default_deployment(deployment: Json) -> None:
    spec = deployment.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    template = spec.get("template")
    if isinstance(template, dict):
        template.setdefault("metadata", {})
        _default_pod_spec(template.setdefault("spec", {}))
    deployment.setdefault("status", {})


def _default_service(service: Json) -> None:
    spec = service.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    service.setdefault("status", {"loadBalancer": {}})


def _default_namespace(namespace: Json) -> None:
    namespace.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    namespace.setdefault("status", {}).setdefault("phase", "Active")
    metadata = namespace["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}


def _default_secret(secret: Json) -> None:
    secret.setdefault("type", "Opaque")
    written = secret.pop("stringData", None) or {}
    if written:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in written.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def _default_volume_claim(claim: Json) -> None:
    claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    capacity = claim["spec"].get("resources", {}).get("requests", {})
    claim.setdefault(
        "status", {"phase": "Bound", "accessModes": claim["spec"].get("accessModes", []), "capacity": capacity}
    )


PROBE_DEFAULTS: Final = {"periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}
DEFAULTS: Final[dict[Kind, Callable[[Json], None]]] = {
    kinds.PODS: _default_pod,
    kinds.DEPLOYMENTS: _default_deployment,
    kinds.SERVICES: _default_service,
    kinds.NAMESPACES: _default_namespace,
    kinds.SECRETS: _default_secret,
    kinds.VOLUME_CLAIMS: _default_volume_claim,
}
