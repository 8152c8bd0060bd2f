"""Which database a verb reads: the one that the running profile writes, whatever its settings were."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from libs.cli.profile import Home, LocalSettings, ServicesPart
from libs.cli.programs import Program, database_of, programs
from libs.common.events.event import Owner


def test_a_verb_reads_the_database_that_up_was_told_of(tmp_path: Path) -> None:
    settings = LocalSettings(services=ServicesPart(database_url="postgresql+psycopg://me@host/{service}"))
    plan = programs(Home(tmp_path), settings, Program("nats", ("nats-server",), {}))
    Home(tmp_path).plan.write_text(json.dumps([asdict(each) for each in plan]))

    assert database_of(Home(tmp_path), Owner.ENDPOINT_API) == "postgresql+psycopg://me@host/endpoint_api"


def test_before_any_up_it_is_where_up_would_put_it(tmp_path: Path) -> None:
    assert database_of(Home(tmp_path), Owner.METERING) == f"sqlite:///{tmp_path}/metering.db"
