"""What a simulated fleet costs: nodes booted, offering their GPUs, looked at rest and given back, in one process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

from libs.common.clock import ManualClock
from libs.common.units import MINUTE_MS, SECOND_MS
from libs.twin import kinds
from libs.twin.fake_engines import FakeEngines
from libs.twin.objects import is_true
from libs.twin.options import DEFAULT_KEY, NODE_TYPES, TwinOptions
from libs.twin.pods import GPU
from libs.twin.world import World
from tests.bench.report import Section

SIZES: Final = (100, 1_000, 10_000)
PER_CLUSTER: Final = 50
STEP_MS: Final = 5 * SECOND_MS
STEPS_MAX: Final = 240  # A node boots for five minutes, and its GPU stack for one and a half.
STATM: Final = Path("/proc/self/statm")
MANAGEMENT: Final = "/kubernetes/management/apis/management.loft.sh/v1"
PROJECT: Final = "fleet"


class Fleet:
    """A world of tenant clusters with fifty nodes each, at the twin's own pace on a clock by hand."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.clock = ManualClock()
        h100 = NODE_TYPES[0].model_copy(update={"capacity": size})
        self.world = World(self.clock, TwinOptions(node_types=(h100, NODE_TYPES[1])), FakeEngines())

    def boot(self) -> None:
        """Ask for every cluster, and wait until every node offers its GPUs."""
        self._ask("POST", "projects", {"metadata": {"name": PROJECT}, "spec": {}})
        self.clock.advance(MINUTE_MS)
        for number in range(self.size // PER_CLUSTER):
            spec = {
                "templateRef": {"name": "inference-h100", "version": "1.0.0"},
                "clusterRef": {"cluster": "eu-1"},
                "parameters": f"gpuQuantity: {PER_CLUSTER}\nnodeType: metal3.gpu-h100\n",
            }
            body = {"metadata": {"name": f"c-{number}"}, "spec": spec}
            self._ask("POST", f"namespaces/p-{PROJECT}/virtualclusterinstances", body)
        self._until(lambda: self._offering() == self.size)

    def rest(self) -> None:
        """A minute in which nothing happens."""
        for _ in range(MINUTE_MS // STEP_MS):
            self._step()

    def give_back(self) -> None:
        """Delete every cluster, and wait until no claim is left."""
        for number in range(self.size // PER_CLUSTER):
            self._ask("DELETE", f"namespaces/p-{PROJECT}/virtualclusterinstances/c-{number}", {})
        self._until(lambda: not self.world.store.all(kinds.NODE_CLAIMS))

    def _offering(self) -> int:
        clusters = [each.cluster for each in self.world.tenants.values() if each.cluster is not None]
        return sum(
            is_true(node, "Ready") and GPU in node["status"]["allocatable"]
            for cluster in clusters
            for node in cluster.store.all(kinds.NODES)
        )

    def _until(self, holds: Any) -> None:  # A test of the world.
        for step in range(STEPS_MAX):
            self._step()
            if step % 10 == 9 and holds():
                return
        raise AssertionError(f"{self._offering()} of {self.size} nodes offer GPUs")

    def _step(self) -> None:
        self.clock.advance(STEP_MS)
        self.world.advance()

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {DEFAULT_KEY}", "content-type": "application/json"}
        answer = self.world.request(method, f"{MANAGEMENT}/{path}", {}, headers, json.dumps(body).encode())
        assert answer.status in (200, 201), answer.body


def measure() -> Section:
    """The curve from a hundred to ten thousand."""
    return Section(
        title="A fleet on one laptop",
        question="What does the twin need for so many GPU nodes? CPU-seconds from the request of their clusters until "
        "every node offers its GPUs, of a minute of its time in which nothing happens, and until all is given back.",
        columns=("nodes", "to boot", "a node", "a minute at rest", "to give back", "memory", "memory a node"),
        rows=tuple(_row(size) for size in SIZES),
        notes=(
            f"Clusters of {PER_CLUSTER} nodes; boots take the twin's five minutes of a clock that is moved by hand.",
            "Memory is what the process has more of than before; a size begins where the one before left off.",
        ),
    )


def _row(size: int) -> tuple[str, ...]:
    before_bytes, fleet = _memory_bytes(), Fleet(size)
    boot_s = _spent_s(fleet.boot)
    more_bytes = max(0, _memory_bytes() - before_bytes)
    rest_s = _spent_s(fleet.rest)
    back_s = _spent_s(fleet.give_back)
    return (
        f"{size:,}",
        f"{boot_s:.2f} s",
        f"{1000 * boot_s / size:.2f} ms",
        f"{rest_s:.3f} s",
        f"{back_s:.2f} s",
        f"{more_bytes / 2**20:.0f} MiB",
        f"{more_bytes / 2**10 / size:.1f} KiB",
    )


def _spent_s(do: Any) -> float:  # What is measured.
    began = time.process_time()
    do()
    return time.process_time() - began


def _memory_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
