"""What is wrong with a template as an operator wrote it: said at start, with the field, before anything is made of it.

Fields of `pod` are judged by the published schemas of Kubernetes, and what is made at last by a dry run; this is what
neither can know, and what is better said at start than when the first endpoint comes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from services.runtime_deployer.core.templates import GPU_RESOURCE, CachePolicy, Template, VolumeClaim

PINNED: Final = re.compile(r".+(:(?!latest$)[\w][\w.-]*|@sha256:[0-9a-f]{64})$")
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
NODE_PATH: Final = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
RESOURCE: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
WORD: Final = re.compile(r"\{([a-z_]+)\}")
WORDS: Final = ("model", "name", "digest", "size_bytes", "host", "port")  # As `pod` fills them in.
ADAPTER_WORDS: Final = ("adapters_max", "adapter_rank_max")  # In `adapter_args` alone.
EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
ACCESS_MODES: Final = ("ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
PORT_MAX: Final = 65_535
AMOUNTS: Final = (  # What is nothing unless it is more than nothing.
    "cpu_per_gpu", "memory_gib_per_gpu", "shared_memory_gib", "load_mib_per_s", "download_mib_per_s", "start_s",
    "drain_s",
)  # fmt: skip


def problems(template: Template) -> Iterator[tuple[str, str]]:
    """What is wrong with a template, as pairs of a field and what to do; nothing if it is fine."""
    for field_name, image in (("fetch_image", template.fetch_image), ("engine_image", template.engine_image)):
        if PINNED.fullmatch(image) is None:
            yield (
                field_name,
                f"{image!r} is whatever its registry says today: name a tag other than latest, or a digest",
            )
    yield from _unknown_words(template)
    yield from _wrong_amounts(template)
    yield from _wrong_network(template)
    yield from _wrong_placing(template)
    if template.claim is not None and template.claim.storage_gib <= 0:
        yield "claim.storage_gib", f"{template.claim.storage_gib} holds no model: say how large the volume is"
    if template.claim is not None and template.claim.access_mode not in ACCESS_MODES:
        yield "claim.access_mode", f"{template.claim.access_mode!r} is none; there are {', '.join(ACCESS_MODES)}"
    if template.cache is not None:
        yield from _cache_problems(template.cache, template.claim)


def _unknown_words(template: Template) -> Iterator[tuple[str, str]]:
    """Words in braces that nobody fills in: an engine would get them as they stand."""
    adapter_args = template.adapter_args or ()
    for name, texts, known in (
        ("fetch_args", template.fetch_args, WORDS),
        ("engine_command", template.engine_command, WORDS),
        ("engine_args", template.engine_args, WORDS),
        ("adapter_args", adapter_args, (*WORDS, *ADAPTER_WORDS)),
    ):
        for place, text in enumerate(texts):
            for word in WORD.findall(text):
                if word not in known:
                    there_are = " ".join(f"{{{each}}}" for each in known)
                    yield f"{name}.{place}", f"{{{word}}} is filled in by nobody; there are {there_are}"


def _wrong_amounts(template: Template) -> Iterator[tuple[str, str]]:
    for name in AMOUNTS:
        if getattr(template, name) <= 0:
            yield name, f"{getattr(template, name)} is not more than nothing"
    if not 0 <= template.unroute_s <= template.drain_s:
        what = f"{template.unroute_s} is not between 0 and drain_s ({template.drain_s}), of which it is a part"
        yield "unroute_s", what


def _wrong_network(template: Template) -> Iterator[tuple[str, str]]:
    ports = (("port", template.port), *((f"egress_ports.{at}", one) for at, one in enumerate(template.egress_ports)))
    for name, port in ports:
        if not 1 <= port <= PORT_MAX:
            yield name, f"{port} is no port: 1 to {PORT_MAX}"
    for name, path in (("health_path", template.health_path), ("metrics_path", template.metrics_path or "/")):
        if not path.startswith("/"):
            yield name, f"{path!r} is no path: it begins with /"
    for place, each in enumerate(template.ingress_cidrs):
        try:
            ipaddress.ip_network(each)
        except ValueError as wrong:
            yield f"ingress_cidrs.{place}", f"{wrong}: write it as 10.0.0.0/8"


def _wrong_placing(template: Template) -> Iterator[tuple[str, str]]:
    if template.device_class and template.gpu_resource != GPU_RESOURCE:
        yield "gpu_resource", "GPUs come by `device_class` or by `gpu_resource`: leave one out"
    if RESOURCE.fullmatch(template.gpu_resource) is None:
        yield "gpu_resource", f"{template.gpu_resource!r} is no resource of nodes: write it as {GPU_RESOURCE}"
    for place, each in enumerate(template.tolerations):
        if each.effect not in EFFECTS:
            yield f"tolerations.{place}.effect", f"{each.effect!r} is none; there are {', '.join(EFFECTS)}"
    for name in template.engine_env:
        if VARIABLE.fullmatch(name) is None:
            yield f"engine_env.{name}", "is no name of a variable: letters, digits, _ . -, and no digit first"


def _cache_problems(cache: CachePolicy, claim: VolumeClaim | None) -> Iterator[tuple[str, str]]:
    if cache.capacity_gib <= 0:
        yield "cache.capacity_gib", f"{cache.capacity_gib} holds no model: say what models may take"
    if claim is not None and cache.capacity_gib > claim.storage_gib:
        yield "cache.capacity_gib", f"{cache.capacity_gib} is more than the claim has ({claim.storage_gib})"
    if bool(cache.node_path) is (claim is not None):
        yield "cache.node_path", "a cache is a directory of nodes or the template's `claim`: name one of them"
    if cache.node_path and NODE_PATH.fullmatch(cache.node_path) is None:
        yield "cache.node_path", f"{cache.node_path!r} is no directory of a node: write it from the root, without dots"
    for place, each in enumerate(cache.keep):
        if DIGEST.fullmatch(each) is None:
            yield f"cache.keep.{place}", f"{each[:80]!r} is no digest of a model: `sha256:` and 64 of 0-9 and a-f"
