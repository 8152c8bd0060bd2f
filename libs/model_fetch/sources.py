"""Where a model comes from, as one URI that an operator writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from libs.common.errors import Invalid

URI_CHARS_MAX: Final = 500
_STEPS: Final = r"[A-Za-z0-9_.+-]+(?:/[A-Za-z0-9_.+-]+)*"


class Scheme(StrEnum):
    """The kinds of place that a model may be in."""

    S3 = "s3"  # s3://<bucket>/<prefix>: anything that speaks S3.
    HUB = "hf"  # hf://<owner>/<name>@<revision>: a repository of the Hugging Face hub, or of a mirror of it.
    DIRECTORY = "file"  # file:///<path>: a directory of the pod, such as a shared filesystem that its template mounts.
    CLAIM = "pvc"  # pvc://<claim>/<path>: a volume claim in the namespace of endpoints, which is mounted for the fetch.
    BAKED = "baked"  # baked:///<path>: the engine's image has it; there is nothing to fetch.


@dataclass(frozen=True, slots=True)
class Source:
    """A URI in parts: `place` is a bucket, a repository or a claim; `path` what is inside of it."""

    scheme: Scheme
    place: str = ""
    path: str = ""
    revision: str = ""


_FORMS: Final[Mapping[Scheme, tuple[str, str]]] = MappingProxyType(
    {
        Scheme.S3: (
            rf"(?P<place>[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9])(?:/(?P<path>{_STEPS})?)?",
            "s3://<bucket>/<prefix>",
        ),
        Scheme.HUB: (
            r"(?P<place>[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)@(?P<revision>[A-Za-z0-9_.-]+)",
            "hf://<owner>/<name>@<revision>",
        ),
        Scheme.DIRECTORY: (rf"(?P<path>/{_STEPS})", "file:///<path>"),
        Scheme.CLAIM: (rf"(?P<place>[a-z0-9][a-z0-9.-]*)(?:/(?P<path>{_STEPS})?)?", "pvc://<claim>/<path>"),
        Scheme.BAKED: (rf"(?P<path>/{_STEPS})", "baked:///<path>"),
    }
)


def parse_source(uri: str) -> Source:
    """The parts of a URI. Raises Invalid saying how it is to be written."""
    name, _, rest = uri.partition("://")
    scheme = next((each for each in Scheme if each == name), None)
    if scheme is None or len(uri) > URI_CHARS_MAX:
        known = ", ".join(form for _, form in _FORMS.values())
        raise Invalid(f"{uri[:80]!r} is no source of a model: write {known}", code="source_invalid")
    pattern, form = _FORMS[scheme]
    found = re.fullmatch(pattern, rest)
    if found is None or {".", ".."} & set(rest.split("/")):
        raise Invalid(f"{uri[:80]!r} is no source of a model: write {form}", code="source_invalid")
    parts = {key: value or "" for key, value in found.groupdict().items()}
    return Source(scheme, **parts)
