"""``python -m services.capacity_manager.shell.doctor``: is this Platform fit for us? What `millrace doctor` runs.

One JSON object on standard output. Exit code 0: healthy; 1: something is broken; 2: the settings are wrong.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common import settings as reading
from libs.common.errors import Rejected
from libs.common.telemetry.logging import fields
from services.capacity_manager.core.checkup import Finding, Health, checkup, is_healthy
from services.capacity_manager.shell.platform import PlatformClient
from services.capacity_manager.shell.platform.examining import examine
from services.capacity_manager.shell.templates import DIRECTORY, read_recipes
from services.capacity_manager.shell.tiers import read_tiers

log = logging.getLogger(__name__)

EXIT_BROKEN: Final = 1
EXIT_USAGE: Final = 2


class PlatformSettings(BaseSettings):
    """The way to the Platform, for a program that needs nothing else."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    platform_url: str = Field(description="Base URL of vCluster Platform, https unless it is the twin.")
    platform_key_file: Path = Field(description="File with the access key.")
    platform_ca_file: Path | None = None  # A default install signs its own certificate.
    catalogue_dir: Path | None = None  # With it, tiers are held against what the Platform has.
    templates_dir: Path = DIRECTORY  # What tiers say of cluster templates is held against these.


def findings(
    client: PlatformClient, *, url: str, catalogue_dir: Path | None, templates_dir: Path = DIRECTORY
) -> tuple[Finding, ...]:
    """Everything looked at. Raises Invalid for a catalogue that can't be read, or contradicts itself."""
    tiers = read_tiers(catalogue_dir, read_recipes(templates_dir)) if catalogue_dir else ()
    return checkup(examine(client, url=url, tiers=tiers))


def log_findings(found: tuple[Finding, ...]) -> None:
    """A line for each thing that is not as it should be, and one for all that is."""
    for each in found:
        if each.health is not Health.FINE:
            log.warning(
                "platform lacks something" if each.health is Health.LACKING else "platform is not fit",
                extra=fields(action=each.area, code=each.name, status=each.health, reason=f"{each.said}: {each.means}"),
            )
    fine = sum(each.health is Health.FINE for each in found)
    log.info("platform examined", extra=fields(count=fine, status="healthy" if is_healthy(found) else "unhealthy"))


def main() -> int:
    """Print what was found."""
    try:
        settings = reading.read(PlatformSettings)
        client = PlatformClient(
            url=settings.platform_url, key_file=settings.platform_key_file, ca_file=settings.platform_ca_file
        )
        found = findings(
            client,
            url=settings.platform_url,
            catalogue_dir=settings.catalogue_dir,
            templates_dir=settings.templates_dir,
        )
    except Rejected as wrong:
        sys.stderr.write(f"doctor: {wrong}\n")
        return EXIT_USAGE
    client.close()
    report = {"healthy": is_healthy(found), "findings": [asdict(each) for each in found]}
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0 if is_healthy(found) else EXIT_BROKEN


if __name__ == "__main__":
    sys.exit(main())
