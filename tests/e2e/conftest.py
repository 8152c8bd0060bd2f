"""One running profile for the tests that do no harm to it.

It ends with the last test of this package: eight processes at rest cost a fifth of a core.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.e2e.local_profile import Profile, commanded_profile, running_profile
from tests.support.name_server import NameServer

DNS_SERVERS: Final = "MILLRACE_DNS_SERVERS"
SERVED: Final = "served"  # For whoever wants to ask something.
BILLED: Final = "billed"  # For the one test that counts all of its requests.
ROOT: Final = Path(__file__).parents[2]
STREAMED_TOKENS_PER_SECOND: Final = 5.0  # Slow, so that a stream is long without being work.
HURRIED_DRAIN_S: Final = 4  # Of the template that cuts what still runs.
MORE_TEMPLATES: Final = ("vllm@2", "vllm@3", "vllm@7", "vllm@8", "vllm@9")  # Offered beside what each tier offers.
ROLLED_TO: Final = "1.1.0"
TIME_SCALE: Final = 0.003  # Nobody here looks at single stages; what is left of them is our own time, not the cloud's.


@pytest.fixture(scope="package")
def zones() -> Iterator[dict[str, tuple[str, ...]]]:
    """What DNS says to the shared profile: nothing, until a test writes into it."""
    with NameServer({}) as server:
        host, port = server.address
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(DNS_SERVERS, f"{host}:{port}")
            yield server.texts


@pytest.fixture(scope="package")
def profile(zones: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """The whole product, shared: tests of the group `profile` run in one worker."""
    del zones  # Its processes ask there.
    more = {DNS_SERVERS: os.environ[DNS_SERVERS]}
    with commanded_profile(tmp_path_factory.mktemp("millrace"), time_scale=TIME_SCALE, more=more) as running:
        yield running


@pytest.fixture(scope="package")
def endpoints(profile: Profile) -> dict[str, str]:
    """The ids of two ready endpoints, by their names; made at once, as that takes no longer than one."""
    ids = {name: profile.create(name) for name in (SERVED, BILLED)}
    for each in ids.values():
        profile.wait_for_stage(each, "ready")
    return ids


@pytest.fixture
def served(endpoints: dict[str, str]) -> str:
    """The name of an endpoint that answers."""
    assert SERVED in endpoints
    return SERVED


@pytest.fixture
def billed(endpoints: dict[str, str]) -> str:
    """The id of an endpoint that nobody has asked anything."""
    return endpoints[BILLED]


@pytest.fixture(scope="package")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """A profile whose tiers also sell templates that are good, hurried, sick once warm, and that nobody can pull.

    Of the cluster template of a tenant's own clusters there is a version to roll to.
    """
    path = tmp_path_factory.mktemp("rollouts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLRACE_CATALOGUE_DIR", str(_catalogue(path / "catalogue")))
        patch.setenv("MILLRACE_RUNTIME_TEMPLATES_DIR", str(_templates(path / "templates")))
        patch.setenv("MILLRACE_TEMPLATES_DIR", str(_cluster_templates(path / "clusters")))
        with running_profile(
            path / "home", time_scale=TIME_SCALE, tokens_per_second=STREAMED_TOKENS_PER_SECOND
        ) as running:
            yield running


def _catalogue(to: Path) -> Path:
    shutil.copytree(ROOT / "deploy" / "catalogue", to)
    tiers = yaml.safe_load((to / "tiers.yaml").read_text())
    for tier in tiers["tiers"]:
        tier["runtime_templates"] = list(dict.fromkeys((*tier["runtime_templates"], *MORE_TEMPLATES)))
    (to / "tiers.yaml").write_text(yaml.safe_dump(tiers))
    return to


def _templates(to: Path) -> Path:
    to.mkdir()
    for each in (ROOT / "services" / "runtime_deployer" / "templates").glob("*.yaml"):
        (to / each.name).write_text(each.read_text())
    good = yaml.safe_load((to / "vllm-1.yaml").read_text())
    for more in (
        {"version": "7", "engine_args": [*good["engine_args"], "--fails-after", "1"]},
        {"version": "8", "unroute_s": 1, "drain_s": HURRIED_DRAIN_S},
        {"version": "9", "engine_image": "millrace/never-built:1"},
    ):
        (to / f"vllm-{more['version']}.yaml").write_text(yaml.safe_dump(good | more))
    return to


def _cluster_templates(to: Path) -> Path:
    to.mkdir()
    for each in (ROOT / "services" / "capacity_manager" / "templates").glob("*.yaml"):
        (to / each.name).write_text(each.read_text())
    text = (to / "tenant-l40s.yaml").read_text()
    (to / "tenant-l40s-next.yaml").write_text(text.replace("version: 1.0.0", f"version: {ROLLED_TO}"))
    return to
