"""The README's picture is the table's, and its codes are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from libs.common.events.catalog import heard_by, told_by
from libs.common.events.event import Owner
from services import endpoint_api
from services.endpoint_api.core.lifecycle import LIFECYCLE
from services.endpoint_api.shell import codes, metrics

README = (Path(str(endpoint_api.__file__)).parent / "README.md").read_text()


def test_the_picture_in_the_readme_is_the_tables() -> None:
    assert LIFECYCLE.mermaid() in README


def test_the_readme_names_every_event_and_metric() -> None:
    for event in (*told_by(Owner.ENDPOINT_API), *heard_by(Owner.ENDPOINT_API)):
        assert f"`{event.kind}`" in README
    for each in vars(metrics).values():
        if isinstance(each, (Counter, Gauge, Histogram)):
            assert f"`{next(iter(each.describe())).name}`" in README


def test_every_code_of_a_refusal_is_listed_and_none_is_listed_that_nobody_is_told() -> None:
    house = Path(str(endpoint_api.__file__)).parent
    code = "\n".join(each.read_text() for each in house.rglob("*.py") if each.name != "codes.py")
    code += (house.parents[1] / "libs/common/errors.py").read_text()
    named = set(re.findall(r'\bcode(?::[^=\n]*)? ?= ?"([a-z_]+)"', code))
    listed = {each for codes_of_one in codes.CODES.values() for each in codes_of_one}

    roots = {"conflict", "rejected", "unknown_event"}  # Those of classes whose every use has a code of its own.
    assert named - roots <= listed
    assert all(f'"{each}"' in code and f"`{each}`" in README for each in listed)
