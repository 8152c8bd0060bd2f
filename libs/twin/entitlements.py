"""What a Platform lets its caller have and do: licence features, rights, and the caller's own access keys.

Rights are `<verb> <resource>`, as RBAC would name them; `*` is any verb. They are a list of what is refused, so that a
world without trouble needs none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from libs.twin import bodies, kinds
from libs.twin.answers import Response, already_exists, answer, bad_request, forbidden, not_found
from libs.twin.objects import Json
from libs.twin.options import FEATURES, TwinOptions

VERBS: Final[Mapping[str, str]] = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
ALLOWED: Final = "active"  # The API's word for a feature that the licence has; one that it has not says "".


class Entitlements:
    """Of the one user of a twin."""

    def __init__(self, options: TwinOptions) -> None:
        self._options = options
        self._keys: dict[str, str] = {}
        self.accepted = set(options.access_keys)

    def check(self, method: str, steps: list[str]) -> None:
        """Raise 403 if the caller may not do this."""
        rest = steps[2:] if steps[0] == "namespaces" else steps
        if not rest:
            return
        verb = VERBS.get(method) or ("get" if len(rest) > 1 else "list")
        if self._refuses(verb, rest[0]):
            user = f'User "{self._options.user}" cannot {verb} resource "{rest[0]}" in API group "{kinds.LOFT}"'
            raise forbidden(f"{rest[0]}.{kinds.LOFT} is forbidden: {user}")

    def answer(self, method: str, steps: list[str], body: bytes) -> Response | None:
        """What is asked of licence, rights and own keys; None for any other path."""
        match method, steps:
            case "GET", ["features"]:
                return answer(_list("Feature", self.features()))
            case "GET", ["licenses"]:
                return answer(_list("License", [self.licence()]))
            case "POST", ["selfsubjectaccessreviews"]:
                return answer(self.review(bodies.read(body)), 201)
            case "POST", ["ownedaccesskeys"]:
                return answer(self.mint(bodies.read(body)), 201)
            case "DELETE", ["ownedaccesskeys", name]:
                self.revoke(name)
                return answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
            case _:
                return None

    def features(self) -> list[Json]:
        """Each feature of the product, and whether the licence has it."""
        names = sorted({*self._options.features, *FEATURES})
        return [
            {"metadata": {"name": each}, "spec": {}, "status": {"name": each, "status": self._status_of(each)}}
            for each in names
        ]

    def licence(self) -> Json:
        """The licence object."""
        return {"metadata": {"name": "license"}, "status": {"license": {"plan": self._options.plan}}}

    def review(self, review: Json) -> Json:
        """The answer to a SelfSubjectAccessReview."""
        asked = (review.get("spec") or {}).get("resourceAttributes")
        if not isinstance(asked, dict):
            raise bad_request("spec.resourceAttributes: Required value")
        may = not self._refuses(str(asked.get("verb", "")), str(asked.get("resource", "")))
        return {**review, "metadata": {}, "status": {"allowed": may}}

    def mint(self, wanted: Json) -> Json:
        """A new key of the caller's own; its secret is told this once."""
        name = str((wanted.get("metadata") or {}).get("name", ""))
        if name in self._keys:
            raise already_exists("ownedaccesskeys", name, kinds.LOFT)
        secret = hashlib.sha256(f"{self._options.seed}|{name}|{len(self.accepted)}".encode()).hexdigest()
        self._keys[name] = secret
        self.accepted.add(secret)
        return {**wanted, "spec": {**(wanted.get("spec") or {}), "key": secret}}

    def revoke(self, name: str) -> None:
        """The key counts no more."""
        secret = self._keys.pop(name, None)
        if secret is None:
            raise not_found("ownedaccesskeys", name, kinds.LOFT)
        self.accepted.discard(secret)

    def _refuses(self, verb: str, resource: str) -> bool:
        return bool({f"{verb} {resource}", f"* {resource}"} & set(self._options.forbidden))

    def _status_of(self, feature: str) -> str:
        return ALLOWED if feature in self._options.features else ""


def _list(kind: str, items: list[Json]) -> Json:
    return {
        "kind": f"{kind}List",
        "apiVersion": f"{kinds.LOFT}/v1",
        "metadata": {"resourceVersion": "1"},
        "items": items,
    }
