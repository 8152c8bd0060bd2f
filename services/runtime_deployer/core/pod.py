"""The pod of one replica: bring the engine's image, bring the weights, then serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from pydantic import JsonValue

from libs.common.events.endpoint import Placement
from libs.common.ids import EndpointId
from services.runtime_deployer.core.observed import ENGINE, FETCH, HOLD, KSERVE_ENGINE
from services.runtime_deployer.core.templates import PROBE_PERIOD_S, Template, Workload
from services.runtime_deployer.core.weights import (
    FETCH_COMMAND,
    HELD,
    HOLD_COMMAND,
    MANIFEST,
    Weights,
    cache_args,
    fetch_args,
    fetch_secrets,
    model_path,
    models_volume,
    node_preference,
    source_mounts,
    source_volumes,
)

Json = dict[str, JsonValue]

READY_PERIOD_S: Final = 2  # A replica that stopped answering is out of the routes within ten seconds.
READY_FAILURES: Final = 2
LIVE_PERIOD_S: Final = 10
LIVE_FAILURES: Final = 6  # A minute without an answer: hung, not busy. Restarting throws the model out of memory.
PROBE_TIMEOUT_S: Final = 2
USER_ID: Final = 65532  # "nonroot" of the usual minimal images.
MODELS: Final = "/models"
SANDBOX: Final = "vnode"  # The tenancy, and the runtime class by which each pod of it is a machine of its own.
GPUS: Final = "gpus"  # The pod's DRA claim, where its template asks for GPUs by one.
# Templates from before they could say `adapter_args`, and of which that is vLLM's.
TAKES_ADAPTERS: Final = frozenset({"vllm", "vllm-openai", "vllm-mig", "vllm-dra", "kserve-vllm"})
VLLM_ADAPTER_ARGS: Final = (
    "--enable-lora",
    "--max-loras",
    "{adapters_max}",
    "--max-lora-rank",
    "{adapter_rank_max}",
)
ADAPTERS_WHILE_SERVING: Final = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
NAME: Final = "{name}"  # In a template: what the engine answers to is no other endpoint's name.
RECIPE_CHARS: Final = 16  # Of one endpoint's handful of recipes; a label may have 63.
RECIPES_MAX: Final = 1024  # Kept by what they are made of: each look at a runtime asks for its recipe several times.


# The fields of a pod that we write: a template that sets one in `pod` would be its second owner.
WRITTEN: Final = frozenset(
    {
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
        "securityContext",
        "runtimeClassName",
        "nodeSelector",
        "tolerations",
        "initContainers",
        "containers",
        "volumes",
        "imagePullSecrets",
        "resourceClaims",
        "restartPolicy",
        "nodeName",
        "hostNetwork",
        "hostPID",
        "hostIPC",
    }
)


def pod_spec(
    endpoint_id: EndpointId, placement: Placement, model: str, template: Template, weights: Weights | None = None
) -> Json:
    """What runs on the node for one replica. Without ``weights`` the fetch's image knows where the model is."""
    words = {
        "{model}": model,
        NAME: f"{model}@{endpoint_id}",
        "{digest}": placement.model_digest,
        "{size_bytes}": str(placement.model_size_bytes),
        "{host}": "$(POD_IP)",
        "{port}": str(template.port),
    }
    return {
        "serviceAccountName": endpoint_id,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": template.unroute_s + template.drain_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"runtimeClassName": SANDBOX} if placement.tenancy == SANDBOX else {}),
        "nodeSelector": {name: value for name, value in sorted(template.node_selector.items())},
        "tolerations": [
            {"key": each.key, "operator": "Exists", "effect": each.effect} for each in template.tolerations
        ],
        "initContainers": [_image(template), *_hold(template, words), _fetch(template, words, weights)],
        "containers": [_engine(placement, template, words, model_path(weights, placement.model_digest))],
        "volumes": [
            {"name": "models", **models_volume(endpoint_id, placement.model_size_bytes, template)},
            *source_volumes(weights),
            {"name": "scratch", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{template.shared_memory_gib}Gi"}},
        ],
        **({"imagePullSecrets": [{"name": template.pull_secret}]} if template.pull_secret else {}),
        **({"resourceClaims": [_gpu_claim(endpoint_id)]} if template.device_class else {}),
        **node_preference(template.cache, placement.model_digest),
        **template.pod,
    }


def served_name(endpoint_id: EndpointId, placement: Placement, model: str, template: Template) -> str:
    """The one name that the engine answers to: the model's, or the endpoint's own where its command line says so."""
    texts = placement.command or (*template.engine_command, *template.engine_args)
    return f"{model}@{endpoint_id}" if any(NAME in each for each in texts) else model


def _gpu_claim(endpoint_id: EndpointId) -> Json:
    return {"name": GPUS, "resourceClaimTemplateName": endpoint_id}


@lru_cache(maxsize=RECIPES_MAX)
def recipe_of(  # All that may tell two pods apart.
    endpoint_id: EndpointId,
    placement: Placement,
    model: str,
    template: Template,
    weights: Weights | None = None,
    moved: str = "",
) -> str:
    """A short name for all that a pod is made of: the same text, the same name, whatever the generation.

    After a move away from a node, pods are called otherwise than before it: so the ones replace the others.
    """
    text = json.dumps(pod_spec(endpoint_id, placement, model, template, weights), sort_keys=True) + moved
    return hashlib.sha256(text.encode()).hexdigest()[:RECIPE_CHARS]


def _image(template: Template) -> Json:
    """Have the engine's image pulled before the weights: the kubelet would begin with it only after them."""
    return {
        "name": "engine-image",
        "image": template.engine_image,
        "command": ["true"],
        "resources": _little(),
        "securityContext": _confined(),
    }


def _hold(template: Template, words: Mapping[str, str]) -> list[JsonValue]:
    """A sidecar, as long as the pod: the model that it holds is not evicted from a cache that others share."""
    if template.cache is None:
        return []
    return [
        {
            "name": HOLD,
            "image": template.fetch_image,
            "restartPolicy": "Always",
            "command": [*HOLD_COMMAND],
            "args": ["--digest", words["{digest}"], "--told", HELD],
            "resources": _little(),
            "securityContext": _confined(),
            "volumeMounts": [
                {"name": "models", "mountPath": MODELS},
                {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108
            ],
        }
    ]


def _fetch(template: Template, words: Mapping[str, str], weights: Weights | None) -> Json:
    args = [*_fill(template.fetch_args, words), *cache_args(template.cache)]
    ours: Json = {"args": args}
    if weights is not None:
        ours = {
            "command": [*FETCH_COMMAND],
            "args": [*args, *fetch_args(weights)],
            "env": [{"name": MANIFEST, "value": weights.manifest}],
        }
    return {
        "name": FETCH,
        "image": template.fetch_image,
        **ours,
        **fetch_secrets((template.model_secret, weights.secret if weights is not None else "")),
        "resources": _little(),
        "securityContext": _confined(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108
            *source_mounts(weights),
        ],
    }


def _engine(placement: Placement, template: Template, words: Mapping[str, str], path: Json) -> Json:
    own: Json = {"args": _fill(template.engine_args, words)}
    if template.engine_command:
        own["command"] = _fill(template.engine_command, words)
    if placement.adapters_max:
        room = {"{adapters_max}": str(placement.adapters_max), "{adapter_rank_max}": str(placement.adapter_rank_max)}
        own["args"] = _fill([*template.engine_args, *_adapter_args(template)], {**words, **room})
    if placement.command:
        own = {"command": _fill(placement.command, words)}
    is_kserve = template.workload is Workload.INFERENCE_SERVICE
    env: list[JsonValue] = [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]
    env += [{"name": name, "value": value} for name, value in sorted(template.engine_env.items())]
    if placement.adapters_max:
        env.append({"name": ADAPTERS_WHILE_SERVING, "value": "True"})
    return {
        "name": KSERVE_ENGINE if is_kserve else ENGINE,
        "image": template.engine_image,
        **own,
        "env": env,
        "ports": [{"name": "http", "containerPort": template.port, "protocol": "TCP"}],
        "resources": _resources(placement, template),
        "securityContext": _confined(),
        # No terminationMessagePolicy: the last log lines of an engine that served may hold a customer's prompt.
        "lifecycle": {"preStop": {"sleep": {"seconds": template.unroute_s}}},
        "startupProbe": _probe(
            template,
            period_s=PROBE_PERIOD_S,
            failures=template.startup_failures(placement.model_size_bytes),
        ),
        "readinessProbe": _probe(template, period_s=READY_PERIOD_S, failures=READY_FAILURES),
        "livenessProbe": _probe(template, period_s=LIVE_PERIOD_S, failures=LIVE_FAILURES),
        "volumeMounts": [
            {"name": "models", "mountPath": MODELS, "readOnly": True, **path},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }


def _adapter_args(template: Template) -> tuple[str, ...]:
    """Room for as many as the model's catalogue entry allows, so that an adapter never restarts an engine."""
    if template.adapter_args is not None:
        return template.adapter_args
    return VLLM_ADAPTER_ARGS if template.name in TAKES_ADAPTERS else ()


def _resources(placement: Placement, template: Template) -> Json:
    gpus = placement.gpus_per_replica
    disk = f"{template.disk_gib(placement.model_size_bytes)}Gi"
    memory = f"{template.memory_gib_per_gpu * gpus}Gi"
    cpu = str(template.cpu_per_gpu * gpus)
    counted: Json = {} if template.device_class else {template.gpu_resource: str(gpus)}
    return {
        "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": disk, **counted},
        "limits": {"memory": memory, **counted},
        **({"claims": [{"name": GPUS}]} if template.device_class else {}),
    }


def _little() -> Json:
    return {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}


def _confined() -> Json:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _probe(template: Template, *, period_s: int, failures: int) -> Json:
    return {
        "httpGet": {"path": template.health_path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": PROBE_TIMEOUT_S,
        "failureThreshold": failures,
    }


def _fill(texts: Sequence[str], words: Mapping[str, str]) -> list[JsonValue]:
    """Fill in the words in braces; other braces (JSON in an argument) stay."""
    filled: list[JsonValue] = []
    for text in texts:
        if "{" in text:
            for word, value in words.items():
                text = text.replace(word, value)
        filled.append(text)
    return filled
