"""CloudEvents attributes as NATS headers, binary mode: ``ce-<name>``, percent-encoded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

# CloudEvents NATS binding, 3.1.3.2: everything but printable ASCII without space, quote and percent is escaped.
SAFE: Final = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
AS_IT_IS: Final = re.compile(r"[!#$&-~]*")  # Almost every value; looking costs a fraction of escaping.


def headers_of(attributes: Mapping[str, str]) -> dict[str, str]:
    """The attributes as headers, those that are empty left out, and what the body is."""
    headers = {f"ce-{name}": _escaped(value) for name, value in attributes.items() if value}
    return {**headers, "content-type": "application/json"}


def attributes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The attributes in headers, by their names in lower case."""
    return {
        name[3:].lower(): unquote(value) if "%" in value else value
        for name, value in headers.items()
        if name[:3].lower() == "ce-"
    }


def _escaped(value: str) -> str:
    return value if AS_IT_IS.fullmatch(value) else quote(value, safe=SAFE)
