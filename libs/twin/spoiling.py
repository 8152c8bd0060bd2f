"""Answers that are none: what a login page, a proxy, a cut connection or a foreign server say instead of the API."""

from __future__ import annotations

import json
from dataclasses import replace

from libs.twin.answers import Response

HTML = b"<!doctype html><html><body>Sign in to continue</body></html>"


def spoiled(true: Response, how: str) -> Response:
    """The answer, spoiled this way; the true one where nothing is on order."""
    match how:
        case "html":
            return Response(200, {"content-type": "text/html"}, HTML)
        case "redirect":
            return Response(302, {"location": "/login?cli=true"}, b"")
        case "half":
            return replace(true, body=true.body[: len(true.body) // 2])
        case "types":
            return replace(true, body=json.dumps(_wrong_types(json.loads(true.body))).encode())
        case "nameless":
            return replace(true, body=json.dumps({**json.loads(true.body), "metadata": {}, "items": [{}]}).encode())
        case _:
            return true


def _wrong_types(body: dict[str, object]) -> dict[str, object]:
    """Lists where objects belong, and numbers where lists do."""
    if isinstance(body.get("items"), list):
        return {**body, "items": 7}
    return {**body, "spec": [1], "status": ["x"]}
