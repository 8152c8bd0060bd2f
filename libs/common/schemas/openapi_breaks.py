"""What of a published OpenAPI document a new one breaks, by method, path and field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from libs.common.schemas.breaks import Use, breaks

Json = dict[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "patch")


def openapi_breaks(published: Json, new: Json) -> Iterator[str]:
    """Each break, such as ``POST /v1/endpoints: body spec.tier is gone``; nothing if the edit is compatible."""
    for path, item in published["paths"].items():
        for method in filter(item.get, METHODS):
            now = new["paths"].get(path, {}).get(method)
            name = f"{method.upper()} {path}"
            if now is None:
                yield f"{name} is gone"
                continue
            comparison = _Operation(published, new)
            for broken in comparison.compare(item[method], now):
                yield f"{name}: {broken}"


class _Operation:
    """Compares one operation in the documents that its references point into."""

    def __init__(self, published: Json, new: Json) -> None:
        self._published = published
        self._new = new

    def compare(self, old: Json, new: Json) -> Iterator[str]:
        if old.get("operationId") != new.get("operationId"):
            yield f"is now called {new.get('operationId')}, was {old.get('operationId')}"
        yield from self._parameters(old.get("parameters", []), new.get("parameters", []))
        yield from self._body(old.get("requestBody"), new.get("requestBody"))
        yield from self._answers(old["responses"], new["responses"])

    def _parameters(self, old: list[Json], new: list[Json]) -> Iterator[str]:
        before, now = ({(each["in"], each["name"]): each for each in given} for given in (old, new))
        for (place, name), each in before.items():
            same = now.get((place, name))
            if same is None:
                yield f"{place} parameter {name} is gone"
                continue
            if same.get("required") and not each.get("required"):
                yield f"{place} parameter {name} is newly required"
            yield from self._values(f"{place} parameter {name}", each["schema"], same["schema"], Use.SENT)
        for key in now.keys() - before.keys():
            if now[key].get("required"):
                yield f"{key[0]} parameter {key[1]} is new and required"

    def _body(self, old: Json | None, new: Json | None) -> Iterator[str]:
        if new is None or old is None:
            if new is not None and new.get("required"):
                yield "body is newly required"
            if old is not None and new is None:
                yield "body is gone"
            return
        if new.get("required") and not old.get("required"):
            yield "body is newly required"
        yield from self._contents("body", old["content"], new["content"], Use.SENT)

    def _answers(self, old: Json, new: Json) -> Iterator[str]:
        for code, each in old.items():
            if code not in new:
                yield f"answer {code} is gone"
                continue
            yield from self._contents(f"answer {code}", each.get("content", {}), new[code].get("content", {}), Use.TOLD)
            for header in each.get("headers", {}).keys() - new[code].get("headers", {}).keys():
                yield f"answer {code} header {header} is gone"

    def _contents(self, where: str, old: Json, new: Json, use: Use) -> Iterator[str]:
        for media, each in old.items():
            if media not in new:
                yield f"{where} is no longer {media}"
            else:
                yield from self._values(where, each.get("schema", {}), new[media].get("schema", {}), use)

    def _values(self, where: str, old: Json, new: Json, use: Use) -> Iterator[str]:
        for broken in breaks(old, new, use=use, published_in=self._published, new_in=self._new):
            yield f"{where} {broken.removeprefix('the value ')}"
