"""What writers send: reading it, refusing what is malformed, and keeping what belongs to the server."""

from __future__ import annotations

import json
import re
from typing import Final

import yaml

from libs.twin.answers import ApiError, bad_request, invalid
from libs.twin.kinds import Kind
from libs.twin.objects import Json, clone
from libs.twin.patching import json_patch, merge_patch, strategic_merge

NAME_FORM: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL_FORM: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SHORT_NAMES: Final = frozenset({"namespaces", "services", "virtualclusterinstances"})
SERVER_FIELDS: Final = (
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "namespace",
    "name",
)


def read(body: bytes) -> Json:
    """A body as an object, JSON or YAML. Raises 400."""
    try:
        value = json.loads(body)
    except ValueError:
        try:
            value = yaml.safe_load(body)
        except yaml.YAMLError as wrong:
            raise bad_request(f"the object provided is unrecognized: {wrong}") from wrong
    if not isinstance(value, dict):
        raise bad_request("the object provided is unrecognized: it is not an object")
    return value


def check_head(kind: Kind, thing: object) -> Json:
    """The metadata of a body that says what it is. Raises 400."""
    if not isinstance(thing, dict):
        raise bad_request("the object provided is unrecognized: it is not an object")
    said = (thing.setdefault("apiVersion", kind.api_version), thing.setdefault("kind", kind.kind))
    if said != (kind.api_version, kind.kind):
        raise bad_request(
            f"the API version in the data ({said[0]}, Kind={said[1]}) does not match the expected "
            f"API version ({kind.api_version}, Kind={kind.kind})"
        )
    metadata = thing.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise bad_request("metadata is not an object")
    for key in ("labels", "annotations"):
        pairs = metadata.get(key) or {}
        if not isinstance(pairs, dict) or not all(isinstance(each, str) for pair in pairs.items() for each in pair):
            raise bad_request(f"metadata.{key} is not a map of strings")
    for key in ("spec", "status"):
        if not isinstance(thing.get(key, {}), dict):
            raise bad_request(f"{key} is not an object")
    return metadata


def check_name(kind: Kind, thing: Json) -> None:
    """Raise 422 for a name that Kubernetes refuses."""
    name = thing["metadata"].get("name")
    if not name:
        raise invalid(
            kind.kind,
            "",
            [("metadata.name", "FieldValueRequired", "Required value: name or generateName is required")],
            kind.group,
        )
    form = LABEL_FORM if kind.plural in SHORT_NAMES else NAME_FORM
    if not isinstance(name, str) or form.fullmatch(name) is None:
        rule = "a lowercase RFC 1123 label" if form is LABEL_FORM else "a lowercase RFC 1123 subdomain"
        why = f"Invalid value: \"{name}\": {rule} must consist of lower case alphanumeric characters or '-'"
        raise invalid(kind.kind, str(name), [("metadata.name", "FieldValueInvalid", why)], kind.group)


def strip(thing: Json) -> None:
    """Forget, in place, what only the server may write at creation."""
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp"):
        thing["metadata"].pop(key, None)


def patched(live: Json, content_type: str, body: bytes) -> Json:
    """The live object after a patch. Raises 400, 415 or 422."""
    try:
        patch = json.loads(body)
    except ValueError as wrong:
        raise bad_request(f"error decoding patch: {wrong}") from wrong
    fresh: Json
    match content_type:
        case "application/json-patch+json":
            if not isinstance(patch, list):
                raise bad_request("a JSON patch is a list of operations")
            return json_patch(live, patch)
        case "application/merge-patch+json":
            fresh = merge_patch(live, patch)
        case "application/strategic-merge-patch+json":
            fresh = strategic_merge(live, patch)
        case other:
            raise ApiError(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {other!r}")
    return clone(fresh)


def with_server_fields(live: Json, thing: Json, *, part: str, keeps_status: bool) -> Json:
    """What a write makes of the live object: a write to `status` changes only that, any other leaves status alone."""
    if part == "status":
        return {**clone(live), "status": thing.get("status", {})}
    for key in SERVER_FIELDS:
        if key in live["metadata"]:
            thing["metadata"][key] = live["metadata"][key]
    if "managedFields" not in thing["metadata"] and "managedFields" in live["metadata"]:
        thing["metadata"]["managedFields"] = clone(live["metadata"]["managedFields"])
    if keeps_status or "status" not in thing:
        if "status" in live:
            thing["status"] = clone(live["status"])
        else:
            thing.pop("status", None)
    return thing


def no_version(kind: Kind, name: str) -> ApiError:
    """422 for an update that does not say which version it saw."""
    why = "Invalid value: 0: must be specified for an update"
    return invalid(kind.kind, name, [("metadata.resourceVersion", "FieldValueInvalid", why)], kind.group)


def no_manager() -> ApiError:
    """422 for an apply that does not say who applies."""
    return invalid(
        "PatchOptions",
        "",
        [("fieldManager", "FieldValueRequired", "Required value: is required for apply patch")],
        "meta.k8s.io",
    )
