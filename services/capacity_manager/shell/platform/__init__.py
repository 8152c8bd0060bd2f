"""The adapter to vCluster Platform: its HTTP API on one side, observations and actions on the other."""

from services.capacity_manager.shell.platform.adapter import Platform
from services.capacity_manager.shell.platform.client import PlatformClient, PlatformError

__all__ = ["Platform", "PlatformClient", "PlatformError"]
