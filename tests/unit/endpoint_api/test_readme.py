"""The README's picture is the table's."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from libs.common.events.catalog import heard_by, told_by
from libs.common.events.event import Owner
from services import endpoint_api
from services.endpoint_api.core.lifecycle import LIFECYCLE
from services.endpoint_api.shell import metrics

README = (Path(str(endpoint_api.__file__)).parent / "README.md").read_text()


def test_the_picture_in_the_readme_is_the_tables() -> None:
    assert LIFECYCLE.mermaid() in README


def test_the_readme_names_every_event_and_metric() -> None:
    for event in (*told_by(Owner.ENDPOINT_API), *heard_by(Owner.ENDPOINT_API)):
        assert f"`{event.kind}`" in README
    for each in vars(metrics).values():
        if isinstance(each, (Counter, Gauge, Histogram)):
            assert f"`{next(iter(each.describe())).name}`" in README
