"""The whole product on PostgreSQL: the same six processes, a database each."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.cli import demo, local
from libs.cli.profile import Home, LocalSettings, ServicesPart, TwinPart
from libs.cli.programs import SERVICES
from tests.e2e.local_profile import free_ports
from tests.support.postgres import Postgres
from tests.support.postgres import postgres as postgres


@pytest.mark.chaos
def test_the_demo_shows_the_same_on_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    for service in SERVICES:
        postgres.execute(f"CREATE DATABASE {service.replace('-', '_')}")
    settings = LocalSettings(
        ports=free_ports(),
        twin=TwinPart(time_scale=0.01),
        services=ServicesPart(database_url=postgres.url("{service}"), confirm_gone_s=0.5, window_s=5),
    )
    home = Home(tmp_path / "home")

    try:
        demo.run(home, settings)  # Raises at the first thing that is not as said.
    finally:
        local.down(home)

    assert list(home.path.glob("endpoint*.db")) == []
