"""Reading pods: their GPUs, images, environment and command line, as a scheduler and a kubelet do."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from typing import Any, Final

from libs.twin import kinds
from libs.twin.objects import Json, is_terminating, name_of, namespace_of
from libs.twin.store import Store

GPU: Final = "nvidia.com/gpu"
REFERENCE: Final = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
DEFAULT_PORT: Final = 8000


def gpus_of(pod: Json) -> int:
    """How many GPUs the pod takes: its containers together, or one init container if that takes more."""

    def taken(container: Json) -> int:
        resources = container.get("resources") or {}
        return int((resources.get("limits") or {}).get(GPU) or (resources.get("requests") or {}).get(GPU) or 0)

    together = sum(taken(each) for each in pod["spec"]["containers"])
    return max([together, *(taken(each) for each in pod["spec"].get("initContainers") or ())])


def is_over(pod: Json) -> bool:
    """Whether it came to an end and takes nothing any more."""
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


def is_ready(pod: Json) -> bool:
    """Whether its Ready condition holds and nobody deleted it."""
    conditions = pod["status"].get("conditions") or ()
    return not is_terminating(pod) and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def ready_since_ms(pod: Json) -> int | None:
    """Since when its Ready condition holds, to the second; None if it doesn't, or somebody deleted it."""
    if not is_ready(pod):
        return None
    (at,) = (each["lastTransitionTime"] for each in pod["status"]["conditions"] if each["type"] == "Ready")
    return 1000 * int(datetime.fromisoformat(at).timestamp())


def repository(image: str) -> str:
    """An image without registry, tag or digest."""
    name = image.split("@")[0]
    head, _, last = name.rpartition("/")
    name = f"{head}/{last.split(':')[0]}" if head else last.split(":")[0]
    first, _, rest = name.partition("/")
    return rest if rest and ("." in first or ":" in first) else name


def port_of(container: Json) -> int:
    """The port that the container serves on."""
    ports = container.get("ports") or ()
    return int(ports[0]["containerPort"]) if ports else DEFAULT_PORT


def probe_path(container: Json) -> str:
    """The path that tells whether it is ready; empty if it has no HTTP probe."""
    for key in ("readinessProbe", "startupProbe"):
        get = (container.get(key) or {}).get("httpGet")
        if get:
            return str(get.get("path") or "/")
    return ""


def environment(store: Store, pod: Json, container: Json) -> dict[str, str]:
    """The container's environment with everything that it refers to. A missing key that is not optional stays away."""
    env: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        env.update(_all_of(store, namespace_of(pod), source))
    for each in container.get("env") or ():
        value = each.get("value")
        if value is None and "valueFrom" in each:
            value = _value_from(store, pod, each["valueFrom"])
        if value is not None:
            env[each["name"]] = expand(str(value), env)
    return env


def expand(text: str, env: dict[str, str]) -> str:
    """`$(NAME)` replaced where the name is known; `$$(NAME)` is an escaped one."""

    def replace(found: re.Match[str]) -> str:
        if found.group(1):
            return found.group(0)[1:]
        return env.get(found.group(2), found.group(0))

    return REFERENCE.sub(replace, text)


def option(args: tuple[str, ...], name: str) -> str | None:
    """The value of `--name value` or `--name=value`."""
    for place, each in enumerate(args):
        if each == name and place + 1 < len(args):
            return args[place + 1]
        if each.startswith(f"{name}="):
            return each.partition("=")[2]
    return None


def _all_of(store: Store, namespace: str, source: Json) -> dict[str, str]:
    for key, kind in (("secretRef", kinds.SECRETS), ("configMapRef", kinds.CONFIG_MAPS)):
        if key in source:
            found = store.find(kind, namespace, source[key]["name"])
            prefix = source.get("prefix", "")
            return {
                prefix + name: _decoded(kind is kinds.SECRETS, text)
                for name, text in ((found or {}).get("data") or {}).items()
            }
    return {}


def _value_from(store: Store, pod: Json, source: Json) -> str | None:
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    for key, kind in (("secretKeyRef", kinds.SECRETS), ("configMapKeyRef", kinds.CONFIG_MAPS)):
        if key in source:
            found = store.find(kind, namespace_of(pod), source[key]["name"])
            text = ((found or {}).get("data") or {}).get(source[key]["key"])
            return None if text is None else _decoded(kind is kinds.SECRETS, text)
    return None


def _decoded(is_secret: bool, text: str) -> str:
    return base64.b64decode(text).decode() if is_secret else text


def _field(pod: Json, path: str) -> str:
    if "['" in path:
        head, _, key = path.partition("['")
        where: Any = pod["metadata"].get(head.split(".")[1]) or {}
        return str(where.get(key.rstrip("']"), ""))
    value: Any = pod
    for step in path.split("."):
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)


def describe(pod: Json) -> str:
    """`namespace/name`."""
    return f"{namespace_of(pod)}/{name_of(pod)}"
