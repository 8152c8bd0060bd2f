"""An OpenAPI 3.1 document as a file of the contract: made tidy, compared with the published one, written.

A service makes the raw document from its own routes; what every document of ours has in common is added here, so that a
client generator gets names, security and problems as they truly are.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from libs.common.schemas.event_files import as_json
from libs.common.schemas.gate import Gate, Part
from libs.common.schemas.openapi_breaks import openapi_breaks

Json = dict[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "patch")
PATIENCE: Final = frozenset({"429", "503"})
PROBLEM: Final = "application/problem+json"
SECURITY: Final[Json] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key of Millrace, `mr_...`. Its tenant and project are what you see and change.",
    }
}


def tidied(raw: Json, *, description: str, is_open: frozenset[str], is_traced: bool = True) -> Json:
    """The document for others: operations by short names, security on all paths but ``is_open``, problems as sent.

    ``is_traced``: every answer carries the id of its request.
    """
    document: Json = json.loads(json.dumps(raw), parse_float=_number)  # Ours to change.
    document["info"]["description"] = description
    document.setdefault("components", {})["securitySchemes"] = SECURITY
    for path, item in document["paths"].items():
        for method in filter(item.get, METHODS):
            operation = item[method]
            operation["operationId"] = _short(operation["operationId"], path, method)
            operation["security"] = [] if path in is_open else [{"key": []}]
            operation["summary"], _, more = operation.get("description", "").partition("\n\n")
            operation["description"] = more or operation["summary"]
            for code, response in operation["responses"].items():
                if int(code) >= 400:
                    response["content"] = _as_problem(response.get("content", {}))
                response["headers"] = {**response.get("headers", {}), **_headers(code, is_traced)}
    return document


def _headers(code: str, is_traced: bool) -> Json:
    """What comes with every answer, and with those that ask for patience."""
    found: Json = {}
    if is_traced:
        said = "Name it when you ask us about this answer."
        found["X-Request-Id"] = {"schema": {"type": "string"}, "description": said}
    if code in PATIENCE:
        found["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds to wait before a repeat."}
    return found


def _number(text: str) -> float:
    """Bounds of whole numbers come as 1.0."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _short(operation_id: str, path: str, method: str) -> str:
    """The name of the function, without the path and method that FastAPI puts behind it."""
    return operation_id.removesuffix(f"{re.sub(r'[^0-9A-Za-z]', '_', path)}_{method}")


def _as_problem(content: Json) -> Json:
    """Errors have one media type, whatever the framework assumes."""
    schemas = [each["schema"] for each in content.values() if each.get("schema")]
    return {PROBLEM: {"schema": schemas[0]}} if schemas else {}


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Path, method and operation of everything that can be asked."""
    for path, item in document["paths"].items():
        for method in filter(item.get, METHODS):
            yield path, method, item[method]


def path_of(service: str) -> str:
    """Where a service's document is, below `schemas/`."""
    return f"openapi/{service}.json"


def openapi_part(service: str, document: Json) -> Part:
    """The document as a part of the contract."""
    contents = {path_of(service): as_json(document)}
    return Part(contents, (), _broken)


def _broken(published: str, new: str) -> Iterator[str]:
    yield from openapi_breaks(json.loads(published), json.loads(new))


def write_or_check(service: str, document: Json) -> int:
    """The command of a service's writer: ``[--check] [--against REF]``; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=f"Write schemas/{path_of(service)} from the routes.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is not true")
    parser.add_argument("--against", default="HEAD", help="the commit whose published file must not be broken")
    given = parser.parse_args()
    return Gate(against=given.against).run(openapi_part(service, document), check=given.check)
