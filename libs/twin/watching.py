"""A watch: the changes of one collection after a version, as the lines of a stream."""

from __future__ import annotations

from libs.twin.answers import bad_request, encode, expired
from libs.twin.kinds import Kind
from libs.twin.objects import Json, namespace_of
from libs.twin.selectors import Match
from libs.twin.store import Change, Store


class Watch:
    """Gives the events of a collection, each once, in order; ends after it had to say 410."""

    def __init__(  # What a watch is of.
        self, store: Store, kind: Kind, namespace: str, match: Match, version: str, *, bookmarks: bool
    ) -> None:
        self._store = store
        self._kind = kind
        self._namespace = namespace
        self._match = match
        self._bookmarks = bookmarks
        self._first = version in {"", "0"}
        self.is_over = False
        try:
            self._seen = store.version if self._first else int(version)
        except ValueError as wrong:
            raise bad_request(f"invalid resource version {version!r}") from wrong

    def lines(self) -> list[bytes]:
        """What happened since the last call."""
        if self.is_over:
            return []
        if self._first:
            self._first = False
            self._seen = self._store.version
            present = self._store.all(self._kind, self._namespace)
            return [_line("ADDED", each) for each in present if self._match(each)]
        if self._seen == self._store.version:
            return []
        changes = self._store.changes_after(self._seen)
        if changes is None:
            self.is_over = True
            return [_line("ERROR", expired(self._seen, self._store.oldest_version).status())]
        self._seen = self._store.version
        return [line for each in changes if (line := self._line_of(each)) is not None]

    def bookmark(self) -> list[bytes]:
        """How far this watch has seen, if its reader asked to be told."""
        if not self._bookmarks or self.is_over:
            return []
        thing = {
            "kind": self._kind.kind,
            "apiVersion": self._kind.api_version,
            "metadata": {"resourceVersion": str(self._seen)},
        }
        return [_line("BOOKMARK", thing)]

    def _line_of(self, change: Change) -> bytes | None:
        if change.kind is not self._kind or (self._namespace and namespace_of(change.new) != self._namespace):
            return None
        was = change.old is not None and self._match(change.old)
        matches = change.verb != "DELETED" and self._match(change.new)
        if matches:
            return _line("MODIFIED" if was else "ADDED", change.new)
        return _line("DELETED", change.new) if was else None


def _line(verb: str, thing: Json) -> bytes:
    return encode({"type": verb, "object": thing}) + b"\n"
