"""The adapter to vCluster Platform: its HTTP API on one side, observations and actions on the other."""

from services.capacity_manager.shell.platform.adapter import Platform
from services.capacity_manager.shell.platform.breaker import Breaker
from services.capacity_manager.shell.platform.client import PlatformClient
from services.capacity_manager.shell.platform.wire import PlatformError

__all__ = ["Breaker", "Platform", "PlatformClient", "PlatformError"]
