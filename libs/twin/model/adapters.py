"""LoRA adapters as vLLM takes them while it serves: loaded and unloaded by name, gone when the engine restarts."""

from __future__ import annotations

from typing import Any, Final

from libs.twin.model.errors import BadRequest
from libs.twin.model.requests import parsed

LOAD: Final = "/v1/load_lora_adapter"
UNLOAD: Final = "/v1/unload_lora_adapter"
NOWHERE: Final = "nowhere/"  # An adapter from there is not found, as with a hub that has none of this name.


class Adapters:
    """The adapters of one engine, by name, with where each came from."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}

    def load(self, body: bytes) -> str:
        """Load one; what to answer. Raises BadRequest as vLLM refuses."""
        name, path = _texts(body, "lora_name", "lora_path")
        if name in self.loaded:
            raise BadRequest(f"The lora adapter '{name}' has already been loaded.", kind="InvalidUserInput")
        if path.startswith(NOWHERE):
            raise BadRequest(
                f"Loading lora {name} failed: No adapter found for {path}", status=404, kind="NotFoundError"
            )
        self.loaded[name] = path
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, body: bytes) -> str:
        """Let go of one; what to answer. Raises BadRequest as vLLM refuses."""
        (name,) = _texts(body, "lora_name")
        if self.loaded.pop(name, None) is None:
            raise BadRequest(f"The lora adapter '{name}' cannot be found.", status=404, kind="NotFoundError")
        return f"Success: LoRA adapter '{name}' removed successfully."

    def cards(self, model: str, created_s: int) -> list[dict[str, Any]]:
        """How they stand in the list of models."""
        return [
            {"id": name, "object": "model", "created": created_s, "owned_by": "millrace", "root": path, "parent": model}
            for name, path in self.loaded.items()
        ]


def _texts(body: bytes, *names: str) -> tuple[str, ...]:
    data = parsed(body)
    found = tuple(str(data.get(name) or "") for name in names)
    if not all(found):
        raise BadRequest(
            f"Both {' and '.join(repr(name) for name in names)} must be provided.", kind="InvalidUserInput"
        )
    return found
