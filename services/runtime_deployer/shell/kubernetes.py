"""The tenant clusters as a world to observe and to act on: server-side apply, look, delete, warm up.

Absent is only what a cluster says is not there (404 of the object, or of the cluster itself). No answer, 401, 403 and
5xx say nothing about what is there: Unavailable.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from libs.common.errors import Rejected, Unavailable
from libs.common.telemetry.logging import fields
from services.runtime_deployer.core.lifecycle import Stage, stage_of
from services.runtime_deployer.core.manifests import ENDPOINT, GENERATION, NAMESPACE, Manifest
from services.runtime_deployer.core.observed import AdapterSeen, Kind, ObjectSeen, Observed, PodSeen
from services.runtime_deployer.core.plan import (
    Action,
    Apply,
    ChangeAdapter,
    Check,
    Delete,
    ForceDeletePod,
    WarmUp,
    looks_at,
)
from services.runtime_deployer.core.state import Cluster, Runtime
from services.runtime_deployer.core.warming import warming
from services.runtime_deployer.shell import metrics
from services.runtime_deployer.shell.connections import APPLY, Connections, Reply
from services.runtime_deployer.shell.fetches import Fetches
from services.runtime_deployer.shell.pods import adapters_seen, is_foreign, number, object_seen, pod_seen

log = logging.getLogger(__name__)

FIELD_MANAGER: Final = "millrace-runtime-deployer"
MODELS: Final = "/v1/models"
LOAD: Final = "/v1/load_lora_adapter"
UNLOAD: Final = "/v1/unload_lora_adapter"

NO_SUCH_FIELD: Final = re.compile(r"failed to create typed patch object \(.*?\): (?P<field>\S+): (?P<why>.*)")

_IN: Final = f"/namespaces/{NAMESPACE}"
PODS: Final = f"/api/v1{_IN}/pods"
AUTOSCALERS: Final = f"/apis/autoscaling/v2{_IN}/horizontalpodautoscalers"
PATHS: Final[Mapping[Kind, str]] = {
    Kind.NAMESPACE: "/api/v1/namespaces",
    Kind.SERVICE_ACCOUNT: f"/api/v1{_IN}/serviceaccounts",
    Kind.VOLUME_CLAIM: f"/api/v1{_IN}/persistentvolumeclaims",
    Kind.GPU_CLAIM: f"/apis/resource.k8s.io/v1{_IN}/resourceclaimtemplates",
    Kind.NETWORK_POLICY: f"/apis/networking.k8s.io/v1{_IN}/networkpolicies",
    Kind.SERVICE: f"/api/v1{_IN}/services",
    Kind.DISRUPTION_BUDGET: f"/apis/policy/v1{_IN}/poddisruptionbudgets",
    Kind.MONITOR: f"/apis/monitoring.coreos.com/v1{_IN}/servicemonitors",
    Kind.POD_MONITOR: f"/apis/monitoring.coreos.com/v1{_IN}/podmonitors",
    Kind.INFERENCE_SERVICE: f"/apis/serving.kserve.io/v1beta1{_IN}/inferenceservices",
    Kind.DEPLOYMENT: f"/apis/apps/v1{_IN}/deployments",
}


class KubernetesClusters:
    """Tenant clusters behind the Platform's proxy. Remembers which pods it warmed; forgetting costs one request."""

    def __init__(
        self,
        connections: Connections,
        *,
        timeout_s: float = 10.0,
        warm_up_timeout_s: float = 30.0,
        adapter_timeout_s: float = 60.0,  # An engine fetches it first; a few hundred MB.
    ) -> None:
        self._connections = connections
        self._fetches = Fetches(connections, PODS)
        self._timeout_s = timeout_s
        self._warm_up_timeout_s = warm_up_timeout_s
        self._adapter_timeout_s = adapter_timeout_s
        self._warmed: dict[tuple[Cluster, str], str] = {}  # By pod: other endpoints have theirs in the same cluster.

    def observe(self, state: Runtime) -> Observed:
        """What is there of this endpoint. Raises Unavailable if that can't be known now."""
        cluster = state.cluster
        assert cluster is not None, f"{state.endpoint_id} is looked for in no cluster"
        looked = looks_at(state)
        found = [self._look(cluster, kind, state.endpoint_id) for kind in looked]
        return Observed(
            removing=stage_of(state) is Stage.REMOVING,
            looked=looked,
            objects=tuple(each for each in found if each is not None),
            pods=self._with_adapters(state, cluster, self._pods(cluster, state.endpoint_id)),
        )

    def apply(self, action: Action) -> None:
        """Do one thing. Raises Unavailable (later) or Rejected (never, naming the field or its other owner)."""
        match action:
            case Check():
                self._refuse_second_scaler(action)
                for manifest in action.manifests:
                    self._apply(action.cluster, manifest, dry=True)
            case Apply():
                with metrics.APPLY_SECONDS.labels(kind=action.manifest.kind).time():
                    self._apply(action.cluster, action.manifest)
            case WarmUp():
                self._warm_up(action)
            case ChangeAdapter():
                self._change_adapter(action)
            case Delete():
                self._delete(action.cluster, f"{PATHS[action.kind]}/{action.name}", {"propagationPolicy": "Foreground"})
            case ForceDeletePod():
                log.warning("pod forgotten", extra=fields(action=f"force delete {action.name}"))
                self._delete(action.cluster, f"{PODS}/{action.name}", {"gracePeriodSeconds": "0"})

    def _look(self, cluster: Cluster, kind: Kind, name: str) -> ObjectSeen | None:
        body = self._get(cluster, f"{PATHS[kind]}/{name}")
        return None if body is None or is_foreign(kind, name, body) else object_seen(kind, body)

    def _pods(self, cluster: Cluster, endpoint_id: str) -> tuple[PodSeen, ...]:
        listed = self._get(cluster, PODS, {"labelSelector": f"{ENDPOINT}={endpoint_id}"}) or {}
        pods = sorted((pod_seen(each) for each in listed.get("items") or ()), key=lambda each: (each.name, each.uid))
        names = {each.name for each in pods}
        for key in [each for each in self._warmed if each[0] == cluster and each[1].startswith(f"{endpoint_id}-")]:
            if key[1] not in names:
                del self._warmed[key]
        return tuple(
            each.model_copy(update={"warmed": self._warmed.get((cluster, each.name)) == each.warm_key})
            for each in self._fetches.add_to(cluster, pods)
        )

    def _with_adapters(self, state: Runtime, cluster: Cluster, pods: tuple[PodSeen, ...]) -> tuple[PodSeen, ...]:
        """The pods with what their engines say they have loaded; one that does not answer has nothing to offer."""
        if not state.asks_for_adapters:
            return pods
        return tuple(
            each.model_copy(update={"adapters": self._loaded(cluster, each)})
            if each.ready and not each.terminating
            else each
            for each in pods
        )

    def _loaded(self, cluster: Cluster, pod: PodSeen) -> tuple[AdapterSeen, ...]:
        reply = self._connections.ask(cluster, "GET", _engine(pod.name, pod.port, MODELS), timeout_s=self._timeout_s)
        return adapters_seen(reply.body) if reply.is_ok else ()

    def _change_adapter(self, action: ChangeAdapter) -> None:
        change = action.change
        path = _engine(action.pod, action.port, LOAD if change.source else UNLOAD)
        body = {"lora_name": change.name, **({"lora_path": change.source} if change.source else {})}
        reply = self._connections.ask(action.cluster, "POST", path, body=body, timeout_s=self._adapter_timeout_s)
        if reply.is_ok or (reply.status == 404 and not change.source):
            return
        said = str((reply.body.get("error") or reply.body).get("message", ""))[:500]
        if reply.status == 400 and "already been loaded" in said:
            return  # The next look says from where.
        if reply.status in (400, 404, 422):
            raise Rejected(f"adapter {change.name} from {change.source}: {said}", code="adapter_refused")
        raise Unavailable(f"{action.pod} did not load adapter {change.name}: {reply.status}", code="adapter_failed")

    def _apply(self, cluster: Cluster, manifest: Manifest, *, dry: bool = False) -> None:
        path = f"{PATHS[manifest.kind]}/{manifest.name}"
        body = self._fenced(manifest, self._get(cluster, path))
        reply = self._connections.ask(
            cluster,
            "PATCH",
            path,
            query={"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})},
            body=body,
            content_type=APPLY,
            timeout_s=self._timeout_s,
        )
        if not reply.is_ok:
            raise trouble_in(reply, f"apply {manifest.kind} {manifest.name}")

    def _refuse_second_scaler(self, check: Check) -> None:
        """KEDA's scalers are among these too: it makes a HorizontalPodAutoscaler of each."""
        names = {each.name for each in check.manifests}
        targets = names | {f"{each}-predictor" for each in names}  # What KServe makes of an InferenceService.
        listed = self._get(check.cluster, AUTOSCALERS) or {}
        for each in listed.get("items") or ():
            target = ((each.get("spec") or {}).get("scaleTargetRef") or {}).get("name", "")
            if target in targets:
                name = each["metadata"]["name"]
                raise Rejected(
                    f"HorizontalPodAutoscaler {NAMESPACE}/{name} scales {target} (spec.scaleTargetRef.name), and so do "
                    "we: delete it, a workload has one autoscaler",
                    code="foreign_autoscaler",
                )

    @staticmethod
    def _fenced(manifest: Manifest, there: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The body to apply: bound to what was just read, so that nobody's newer apply is overwritten.

        To its uid as well as to its version: by the version alone, what was deleted meanwhile would be made anew.
        """
        if there is None or manifest.kind is Kind.NAMESPACE:
            return manifest.body
        if is_foreign(manifest.kind, manifest.name, there):
            raise Rejected(
                f"{manifest.kind} {NAMESPACE}/{manifest.name} is there and not ours (metadata.labels has no "
                f"{ENDPOINT}={manifest.name}): delete or rename it, nothing was applied over it",
                code="foreign_object",
            )
        metadata = there.get("metadata") or {}
        newer = number((metadata.get("annotations") or {}).get(GENERATION))
        if newer > manifest.generation:
            raise Unavailable(
                f"{manifest.kind} {manifest.name} is at generation {newer}, ours is {manifest.generation}",
                code="fenced",
            )
        ours = manifest.body["metadata"]
        assert isinstance(ours, dict), manifest.kind
        bound = {each: metadata.get(each, "") for each in ("uid", "resourceVersion")}
        return {**manifest.body, "metadata": {**ours, **bound}}

    def _warm_up(self, action: WarmUp) -> None:
        asked = warming(action.surface, action.model)
        path = _engine(action.pod, action.port, asked.path)
        with metrics.WARM_UP_SECONDS.time():
            reply = self._connections.ask(
                action.cluster, asked.method, path, body=asked.body, timeout_s=self._warm_up_timeout_s
            )
        if reply.status in (400, 422):
            raise Rejected(f"{action.pod} refused the warm-up request with {reply.status}", code="warm_up_refused")
        if not reply.is_ok or not asked.is_answer(reply.body):
            raise Unavailable(f"{action.pod} did not answer the warm-up request: {reply.status}", code="warm_up_failed")
        self._warmed[action.cluster, action.pod] = action.key

    def _delete(self, cluster: Cluster, path: str, query: Mapping[str, str]) -> None:
        reply = self._connections.ask(cluster, "DELETE", path, query=query, timeout_s=self._timeout_s)
        if not reply.is_ok and reply.status != 404:
            raise trouble_in(reply, f"delete {path}")

    def _get(self, cluster: Cluster, path: str, query: Mapping[str, str] | None = None) -> Mapping[str, Any] | None:
        reply = self._connections.ask(cluster, "GET", path, query=query, timeout_s=self._timeout_s)
        if reply.status == 404:
            return None
        if not reply.is_ok:
            raise trouble_in(reply, f"get {path}")
        return reply.body


def _engine(pod: str, port: int, path: str) -> str:
    """A path of a pod's engine, through the API server."""
    return f"{PODS}/http:{pod}:{port}/proxy{path}"


def trouble_in(reply: Reply, doing: str) -> Rejected | Unavailable:
    """The error that a bad answer means: refused for good, or not now."""
    details = reply.body.get("details") or {}
    causes = details.get("causes") or ()
    message = str(reply.body.get("message", ""))[:500]
    conflicts = [each for each in causes if each.get("reason") == "FieldManagerConflict"]
    if reply.status == 409 and conflicts:
        named = "; ".join(f"{each.get('field', '?')}: {each.get('message', '')}" for each in conflicts)
        return Rejected(f"{doing}: another field manager owns {named}", code="field_conflict")
    unknown = NO_SUCH_FIELD.search(message)
    if unknown is not None:  # A server answers 500 to this, as if it were its own fault.
        return Rejected(f"{doing}: {unknown['field']}: {unknown['why']}", code="invalid_object")
    if reply.status in (400, 422):
        named = "; ".join(f"{each.get('field', '?')}: {each.get('message', '')}" for each in causes)
        return Rejected(f"{doing}: {named or message}", code="invalid_object")
    reason = reply.body.get("reason") or f"HTTP {reply.status}"
    return Unavailable(f"{doing}: {reason}: {message}", retry_after_s=reply.retry_after_s, code=f"http_{reply.status}")
