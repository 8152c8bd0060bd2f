"""What a service loads to start: every test and every restart waits for it."""

from __future__ import annotations

import subprocess
import sys


def test_the_bus_does_not_load_a_web_client_for_sockets_that_it_never_opens() -> None:
    code = "import sys, libs.common.bus.nats as bus; print(bus.NatsBus.__name__, 'aiohttp.client' in sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert loaded.split() == ["NatsBus", "False"]
