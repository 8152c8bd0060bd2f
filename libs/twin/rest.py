"""The verbs of a Kubernetes API server over a store: list, get, create, update, patch, apply, delete, watch."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from libs.twin import address, bodies
from libs.twin.address import Address
from libs.twin.answers import ApiError, Response, answer, bad_request, conflict, expired, no_such_path
from libs.twin.apply import apply, written
from libs.twin.kinds import Kind
from libs.twin.objects import Json, clone, name_of, namespace_of, suffix
from libs.twin.selectors import Match, fields_match, labels_match
from libs.twin.sight import Sight
from libs.twin.store import Store
from libs.twin.watching import Watch

Query = Mapping[str, str]
Headers = Mapping[str, str]
CREATED = 201
ADDRESSES_MAX = 1024  # Kept parsed.
PARTIAL = "as=PartialObjectMetadataList"


class Rules(Protocol):
    """What one API server adds to the verbs."""

    def default(self, kind: Kind, thing: Json) -> None:
        """Fill in, in place, what a writer may leave out."""

    def admit(self, kind: Kind, old: Json | None, new: Json) -> None:
        """Raise ApiError for a create (`old` is None) or a change that is not allowed."""

    def delete(self, kind: Kind, thing: Json, options: Json) -> Json | None:
        """Delete; gives the object if it lingers."""


class Rest:
    """One API server."""

    def __init__(  # What an API server stands on.
        self,
        store: Store,
        kinds: Iterable[Kind],
        rules: Rules,
        now_ms: Callable[[], int],
        sight: Sight | None = None,
    ) -> None:
        self.store = store
        self._sight = sight or Sight(store)
        served = {(each.group, each.version, each.plural): each for each in kinds}
        # Clients ask for few things, each again and again, and on its way a request is taken apart by several.
        self.address = lru_cache(ADDRESSES_MAX)(lambda path: address.parse(path, served))
        self._rules = rules
        self._now_ms = now_ms

    def request(self, method: str, path: str, query: Query, headers: Headers, body: bytes) -> Response:
        """Answer one request. Raises ApiError."""
        target = self.address(path)
        if target.subresource and target.subresource not in target.kind.subresources:
            raise no_such_path()
        if not target.name:
            return self._on_collection(method, target, query, headers, body)
        return self._on_object(method, target, query, headers, body)

    def watch(self, path: str, query: Query) -> Watch:
        """Start to watch a collection. Raises ApiError."""
        target = self.address(path)
        match = _match(query)
        if target.name:
            name, other = target.name, match
            match = lambda thing: name_of(thing) == name and other(thing)  # noqa: E731  # A name for it would say less.
        version = query.get("resourceVersion", "")
        bookmarks = query.get("allowWatchBookmarks") in {"true", "1"}
        return Watch(self.store, target.kind, target.namespace, match, version, bookmarks=bookmarks)

    def _on_collection(self, method: str, target: Address, query: Query, headers: Headers, body: bytes) -> Response:
        if method == "GET":
            listed = self.collect(target.kind, target.namespace, query)
            return answer(_partial(listed) if PARTIAL in headers.get("accept", "") else listed)
        if method == "POST":
            return answer(self._create(target, bodies.read(body), dry=_is_dry(query)), CREATED)
        if method == "DELETE":
            listed = self.collect(target.kind, target.namespace, query)
            options = bodies.read(body) if body else {}
            for each in self._pick(target.kind, target.namespace, query):
                self._rules.delete(target.kind, each, options)
            return answer(listed)
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _on_object(self, method: str, target: Address, query: Query, headers: Headers, body: bytes) -> Response:
        kind, dry = target.kind, _is_dry(query)
        if method == "GET":
            live = self._sight.get(kind, target.namespace, target.name)
            return answer(_scale_of(live) if target.subresource == "scale" else live)
        if method == "PUT":
            return answer(self._replace(target, bodies.read(body), dry=dry))
        if method == "PATCH":
            return self._patch(target, query, headers, body)
        if method == "DELETE" and not target.subresource:
            return self._delete(target, bodies.read(body) if body else {}, query)
        raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def collect(self, kind: Kind, namespace: str, query: Query) -> Json:
        """A `…List` object, paged if asked."""
        things = self._pick(kind, namespace, query)
        metadata: Json = {"resourceVersion": str(self.store.version)}
        if query.get("continue"):
            version, last = _token(query["continue"])
            if version < self.store.oldest_version:
                raise expired(version, self.store.oldest_version)
            things = [each for each in things if (namespace_of(each), name_of(each)) > last]
        limit = _whole(query.get("limit") or "0")
        if limit and len(things) > limit:
            metadata["remainingItemCount"] = len(things) - limit
            things = things[:limit]
            key = [self.store.version, namespace_of(things[-1]), name_of(things[-1])]
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps(key).encode()).decode()
        items = [{key: each[key] for key in each if key not in {"kind", "apiVersion"}} for each in things]
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}

    def _pick(self, kind: Kind, namespace: str, query: Query) -> list[Json]:
        match = _match(query)
        return [each for each in self._sight.all(kind, namespace) if match(each)]

    def _create(self, target: Address, thing: Json, *, dry: bool) -> Json:
        kind = target.kind
        metadata = bodies.check_head(kind, thing)
        if kind.namespaced:
            namespace = metadata.setdefault("namespace", target.namespace)
            if namespace != target.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            metadata.pop("namespace", None)
        if "name" not in metadata and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + suffix(self.store.name, str(self.store.version))
        bodies.strip(thing)
        bodies.check_name(kind, thing)
        self._rules.default(kind, thing)
        if self.store.find(kind, namespace_of(thing), name_of(thing)) is None:
            self._rules.admit(kind, None, thing)
        return thing if dry else self.store.create(kind, thing, self._now_ms())

    def _replace(self, target: Address, thing: Json, *, dry: bool) -> Json:
        live = self.store.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            return self._write(target, live, _scaled(live, thing), dry=dry)
        metadata = bodies.check_head(target.kind, thing)
        if metadata.get("name") != target.name:
            raise bad_request("the name of the object does not match the name on the URL")
        if not metadata.get("resourceVersion") and target.kind.group == "management.loft.sh":
            raise bodies.no_version(target.kind, target.name)
        return self._write(target, live, thing, dry=dry)

    def _patch(self, target: Address, query: Query, headers: Headers, body: bytes) -> Response:
        content = headers.get("content-type", "").split(";")[0].strip()
        if content in {"application/apply-patch+yaml", "application/apply-patch+json"}:
            return self._apply(target, query, body)
        live = self.store.get(target.kind, target.namespace, target.name)
        if target.subresource == "scale":
            scale = bodies.patched(_scale_of(live), content, body)
            return answer(_scale_of(self._write(target, live, _scaled(live, scale), dry=_is_dry(query))))
        fresh = bodies.patched(live, content, body)
        if live["metadata"].get("managedFields") and not target.subresource:
            manager = query.get("fieldManager", "unknown")
            fresh["metadata"]["managedFields"] = written(live, fresh, manager=manager, now_ms=self._now_ms())
        return answer(self._write(target, live, fresh, dry=_is_dry(query)))

    def _apply(self, target: Address, query: Query, body: bytes) -> Response:
        kind = target.kind
        manager = query.get("fieldManager")
        if not manager:
            raise bodies.no_manager()
        wanted = bodies.read(body)
        metadata = bodies.check_head(kind, wanted)
        if metadata.setdefault("name", target.name) != target.name:
            raise bad_request(f"name in URL does not match name in object: {target.name}")
        if kind.namespaced:
            metadata.setdefault("namespace", target.namespace)
        live = self.store.find(kind, target.namespace, target.name)
        force = query.get("force") in {"true", "1"}
        fresh = apply(live, wanted, manager=manager, force=force, now_ms=self._now_ms())
        if live is not None:
            return answer(self._write(target, live, fresh, dry=_is_dry(query)))
        if target.subresource:
            raise no_such_path()
        if metadata.get("uid"):  # A version alone would not keep it from being made anew.
            why = f"uid mismatch: the provided object specified uid {metadata['uid']}, and no existing object was found"
            raise conflict(kind.plural, target.name, kind.group, why)
        return answer(self._create(target, fresh, dry=_is_dry(query)), CREATED)

    def _write(self, target: Address, live: Json, thing: Json, *, dry: bool) -> Json:
        kind, old, new = target.kind, live["metadata"], thing["metadata"]
        if new.get("resourceVersion") not in {None, "", old["resourceVersion"]}:
            raise conflict(kind.plural, target.name, kind.group)
        if new.get("uid") not in {None, old["uid"]}:
            raise conflict(
                kind.plural, target.name, kind.group, f"Precondition failed: UID in precondition: {new['uid']}"
            )
        fresh = bodies.with_server_fields(
            live, clone(thing), part=target.subresource, keeps_status="status" in kind.subresources
        )
        self._rules.default(kind, fresh)
        self._rules.admit(kind, live, fresh)
        if dry:
            return fresh
        written = self.store.put(kind, fresh)
        if (
            "deletionTimestamp" in old
            and not written["metadata"].get("finalizers")
            and not old.get("deletionGracePeriodSeconds")
        ):
            self.store.remove(kind, written)
        return written

    def _delete(self, target: Address, options: Json, query: Query) -> Response:
        kind = target.kind
        live = self.store.get(kind, target.namespace, target.name)
        for key in ("propagationPolicy", "gracePeriodSeconds"):
            if key in query:
                options.setdefault(key, _whole(query[key]) if key == "gracePeriodSeconds" else query[key])
        for key, value in (options.get("preconditions") or {}).items():
            if live["metadata"].get(key) != value:
                raise conflict(
                    kind.plural, target.name, kind.group, f"Precondition failed: {key} in precondition: {value}"
                )
        lingering = self._rules.delete(kind, live, options)
        if lingering is not None:
            return answer(lingering)
        details: Json = {"name": target.name, "group": kind.group, "kind": kind.plural, "uid": live["metadata"]["uid"]}
        return answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


def _partial(listed: Json) -> Json:
    """The list with nothing of each object but its metadata."""
    head = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": listed["metadata"]}
    return {**head, "items": [{"metadata": each["metadata"]} for each in listed["items"]]}


def _match(query: Query) -> Match:
    labels, fields = labels_match(query.get("labelSelector", "")), fields_match(query.get("fieldSelector", ""))
    return lambda thing: labels(thing) and fields(thing)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise bad_request(f"{text!r} is not a whole number")
    return int(text)


def _is_dry(query: Query) -> bool:
    return query.get("dryRun") == "All"


def _token(text: str) -> tuple[int, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(text))
    except (ValueError, binascii.Error) as wrong:
        raise bad_request("continue key is not valid") from wrong
    return int(version), (str(namespace), str(name))


def _scale_of(live: Json) -> Json:
    status: Json = live.get("status", {})
    selector = ",".join(
        f"{key}={value}" for key, value in sorted(live["spec"]["selector"].get("matchLabels", {}).items())
    )
    keep = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: live["metadata"][key] for key in keep},
        "spec": {"replicas": live["spec"].get("replicas", 1)},
        "status": {"replicas": status.get("replicas", 0), "selector": selector},
    }


def _scaled(live: Json, scale: Json) -> Json:
    fresh: dict[str, Any] = clone(live)
    fresh["spec"]["replicas"] = int(scale.get("spec", {}).get("replicas", 0))
    return fresh
