"""Follow collections of the Platform: list, then watch from there, and list again when the watch has lost its place.

Only ever a hint: whoever is told looks for itself. A watch that breaks costs lateness, never a change.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from libs.common.errors import MillraceError
from libs.common.telemetry.logging import fields
from services.capacity_manager.shell.platform import labels
from services.capacity_manager.shell.platform.client import Json, PlatformClient

log = logging.getLogger(__name__)

RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0


def follow(client: PlatformClient, path: str, tell: Callable[[str], None], ended: threading.Event) -> None:
    """Tell which endpoint's objects changed, until ``ended``. What changed while we were away is told after a list."""
    version, wait_s = "", RETRY_FIRST_S
    while not ended.is_set():
        try:
            if not version:
                things, version = client.listed(path)
                for each in things:
                    _tell(each, tell)
            version = _watch(client, path, version, tell, ended)
            wait_s = RETRY_FIRST_S
        except MillraceError as trouble:
            # Whatever it is, also a version that the server no longer knows (410): only a list is certain again.
            log.info("watch broken, will list again", extra=fields(path=path, reason=str(trouble)))
            version = ""
            ended.wait(wait_s)
            wait_s = min(2 * wait_s, RETRY_MAX_S)


def _watch(client: PlatformClient, path: str, version: str, tell: Callable[[str], None], ended: threading.Event) -> str:
    """The version of the last thing told; a watch that ends in order goes on from it."""
    for change in client.watch(path, version):
        version = str((change["object"].get("metadata") or {}).get("resourceVersion") or version)
        if change["type"] != "BOOKMARK":
            _tell(change["object"], tell)
        if ended.is_set():
            break
    return version


def _tell(thing: Json, tell: Callable[[str], None]) -> None:
    endpoint = labels.of(thing).get(labels.ENDPOINT)
    if endpoint:
        tell(endpoint)
