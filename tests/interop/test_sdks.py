"""The SDKs that people use, unmodified, against the whole product: one list of calls, and the bill of who left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from libs.cli.output import console, table
from libs.cli.profile import CATALOGUE
from tests.e2e.local_profile import Profile, running_profile, wait_until
from tests.e2e.test_bill_is_true import Bill, bills
from tests.interop.sdks.calls import CALLS, LIMIT, LONG, NOT_OFFERED, SPOKEN
from tests.support import npm, pip

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("sdks")]

SDKS: Final = Path(__file__).parent / "sdks"
ROOT: Final = Path(__file__).parents[2]
DRIVE_S: Final = 240
ABSENT: Final = "LANGCHAIN COULD NOT BE INSTALLED (from PyPI): NO SDK WAS TRIED"
NAMES: Final = tuple(call.name for call in CALLS)
LEFT: Final = "client_disconnect"
SOUND: Final = "sound"  # The endpoint that all of them let speak, and its tier and model.
LANGCHAIN_LACKS: Final = frozenset({"list_models", "sound", "no_sound"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Driver:
    """A program that makes the calls with one SDK."""

    sdk: str
    argv: tuple[str, ...]
    cwd: Path


@dataclass(frozen=True, slots=True)
class Drove:
    """What became of each call, and what its endpoint was billed."""

    said: dict[str, Json]
    bills: tuple[Bill, ...]

    def verdict(self, name: str) -> str:
        """What is wrong with a call; `ok`, or that the SDK has no such call."""
        said = self.said.get(name, {"failed": "no word of it"})
        if "failed" in said:
            return str(said["failed"])
        if said["result"] is None:
            return NOT_OFFERED
        return "; ".join(next(call for call in CALLS if call.name == name).check(said["result"])) or "ok"


def drive(driver: Driver, profile: Profile) -> Drove:
    """Make all calls with one SDK, each at an endpoint of its own."""
    limited = f"{driver.sdk}-limited"
    place = {
        "base_url": profile.credentials.router_url, "key": profile.credentials.key, "model": driver.sdk,
        "limited": limited, "limit": LIMIT, "long": LONG, "sound": SOUND, "spoken": SPOKEN,
    }  # fmt: skip
    ran = subprocess.run(
        [*driver.argv, json.dumps(place), *NAMES],
        cwd=driver.cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DRIVE_S,
        check=False,
    )
    said = {each["call"]: each for each in map(json.loads, ran.stdout.splitlines())}
    assert set(said) == set(NAMES), ran.stdout + ran.stderr

    endpoint_id = profile.endpoint(driver.sdk)["id"]

    def left() -> tuple[Bill, ...]:
        return tuple(each for each in bills(profile, endpoint_id).values() if each.finish == LEFT)

    wait_until(lambda: len(left()) == 2, f"the two answers that {driver.sdk} left were not billed")
    return Drove(said, left())


def with_sound(to: Path) -> Path:
    """The catalogue, and beside it a model of sound on a tier whose command is an engine of this repository's tests."""
    to.mkdir()
    sold, models = (yaml.safe_load((CATALOGUE / each).read_text()) for each in ("tiers.yaml", "models.yaml"))
    tier = next(each for each in sold["tiers"] if each["name"] == "l40s-dedicated")
    argv = (sys.executable, "-m", "tests.support.sound")
    command = [*argv, "--model", "{model}", "--host", "{host}", "--port", "{port}"]
    sold["tiers"].append({**tier, "name": SOUND, "runtime_templates": ["container@1"], "command": command})
    calls = ["speech", "transcriptions"]
    model = {**models["models"][0], "id": f"tests/{SOUND}", "tiers": [SOUND], "surfaces": calls, "adapters_max": 0}
    models["models"].append({**model, "adapter_rank_max": 0})
    (to / "tiers.yaml").write_text(yaml.safe_dump(sold))
    (to / "models.yaml").write_text(yaml.safe_dump(models))
    return to


@pytest.fixture(scope="module")
def drove(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drove]:
    """All three SDKs, at the same time: most of it is one minute of a rate limit."""
    base = tmp_path_factory.mktemp("sdks")
    langchain = pip.installed(SDKS / "langchain.txt", base / "langchain", *pip.WHEELS, absent=ABSENT)
    drivers = (
        Driver("python", (sys.executable, "-m", "tests.interop.sdks.openai_python"), ROOT),
        Driver("node", ("node", "openai_node.mjs"), npm.installed(SDKS, base / "node")),
        Driver("langchain", (str(langchain), "-m", "tests.interop.sdks.langchain_driver"), ROOT),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLRACE_CATALOGUE_DIR", str(with_sound(base / "catalogue")))
        return _driven(base, drivers)


def _driven(base: Path, drivers: tuple[Driver, ...]) -> dict[str, Drove]:
    with running_profile(base / "home", time_scale=0.003) as profile:
        ids = [profile.create(each.sdk) for each in drivers]
        ids.append(profile.create(SOUND, model=f"tests/{SOUND}", tier=SOUND))
        for each in drivers:
            ids.append(profile.create(f"{each.sdk}-limited"))
            profile.client.api.endpoints.update(f"{each.sdk}-limited", {"limits": {"requests_per_minute": 2}})
        for endpoint_id in ids:
            profile.wait_for_stage(endpoint_id, "ready")
        with ThreadPoolExecutor(len(drivers)) as pool:
            found = dict(
                zip((each.sdk for each in drivers), pool.map(lambda d: drive(d, profile), drivers), strict=True)
            )
    rows = [(name, *(each.verdict(name) for each in found.values())) for name in NAMES]
    console.print(table(("call", *found), rows))
    return found


@pytest.mark.parametrize("sdk", ["python", "node", "langchain"])
@pytest.mark.parametrize("name", NAMES)
def test_an_sdk_makes_every_call_of_the_list(drove: dict[str, Drove], sdk: str, name: str) -> None:
    verdict = drove[sdk].verdict(name)

    assert verdict == "ok" or (sdk == "langchain" and name in LANGCHAIN_LACKS and verdict == NOT_OFFERED), verdict


@pytest.mark.parametrize("sdk", ["python", "node", "langchain"])
def test_who_leaves_is_billed_for_what_was_delivered(drove: dict[str, Drove], sdk: str) -> None:
    seen = drove[sdk].said["cancelled_mid_stream"]["result"]["seen"]
    waited, cancelled = sorted(drove[sdk].bills, key=lambda bill: bill.tokens)

    assert waited.tokens == 0  # The answer that was not streamed: nothing of it was delivered in time.
    assert seen <= cancelled.tokens < LONG
