"""The bus: `port` says the promises, `nats` and `memory` keep them, `streams` is the one declaration of all streams."""

import sys

# nats-py loads it for websockets, which we do not speak: 10 MiB and a sixth of the time that a service takes to start.
sys.modules.setdefault("aiohttp", None)  # type: ignore[arg-type]  # Python's way to say: not here.
