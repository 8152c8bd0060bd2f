"""What a key-value bucket holds, as its watch tells it: for whoever fills the bucket, to see what it lost."""

from __future__ import annotations


class BucketMirror:
    """The bucket's values. `change` is the watch's; the rest may be read in any thread."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self.changes = 0

    def change(self, key: str, value: bytes | None) -> None:
        """A key was set or deleted."""
        self.changes += 1
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none."""
        return self._values.get(key)
