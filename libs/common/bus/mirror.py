"""What a key-value bucket holds, as its watch tells it: for whoever fills the bucket, to see what it lost."""

from __future__ import annotations


class BucketMirror:
    """The bucket's values and deletions. `change` and `lose` are the watch's; the rest may be read in any thread."""

    def __init__(self) -> None:
        self._values: dict[str, bytes | None] = {}
        self.changes = 0

    def change(self, key: str, value: bytes | None) -> None:
        """A key was set or deleted."""
        self.changes += 1
        self._values[key] = value

    def lose(self, key: str) -> None:
        """The broker lost the key, or that it was deleted."""
        self.changes += 1
        self._values.pop(key, None)

    def says(self, key: str, value: bytes | None) -> bool:
        """Whether the bucket has this value; None: whether it says that the key was deleted."""
        return key in self._values and self._values[key] == value
