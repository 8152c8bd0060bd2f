"""What a Kubernetes API path addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from libs.twin.answers import no_such_path
from libs.twin.kinds import Kind


@dataclass(frozen=True, slots=True)
class Address:
    """A collection, an object, or a part of an object."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    rest: tuple[str, ...] = ()


def parse(path: str, kinds: Mapping[tuple[str, str, str], Kind]) -> Address:
    """Read `/api/v1/…` or `/apis/<group>/<version>/…`. Raises 404 for what is not served."""
    steps = [each for each in path.split("/") if each]
    if len(steps) >= 3 and steps[0] == "api":
        group, version, steps = "", steps[1], steps[2:]
    elif len(steps) >= 4 and steps[0] == "apis":
        group, version, steps = steps[1], steps[2], steps[3:]
    else:
        raise no_such_path()
    namespace = ""
    if steps[0] == "namespaces" and len(steps) > 2 and not _is_part_of_a_namespace(steps):
        namespace, steps = steps[1], steps[2:]
    kind = kinds.get((group, version, steps[0]))
    if kind is None or (namespace and not kind.namespaced):
        raise no_such_path()
    return _address(kind, namespace, steps[1:])


def _is_part_of_a_namespace(steps: Sequence[str]) -> bool:
    return len(steps) == 3 and steps[2] in {"status", "finalize"}


def _address(kind: Kind, namespace: str, steps: Sequence[str]) -> Address:
    name = steps[0] if steps else ""
    subresource = steps[1] if len(steps) > 1 else ""
    if name and kind.namespaced and not namespace:
        raise no_such_path()
    return Address(kind, namespace, name, subresource, tuple(steps[2:]))
