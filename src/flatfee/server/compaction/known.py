"""Which results are obsolete: a later one tells the same, or tells it anew."""

from __future__ import annotations

import hashlib

from msgspec import Raw

from flatfee.server.compaction.subjects import Deed, Subject
from flatfee.server.compaction.wording import SHORTEST


class Known:
    """The results so far, by what may make them obsolete. Each is looked at once."""

    def __init__(self) -> None:
        self._by_identity: dict[bytes, int] = {}
        self._by_content: dict[bytes, int] = {}
        self._reads: dict[tuple[str, str], list[int]] = {}
        self._readers: dict[str, set[str]] = {}

    def superseded(self, index: int, subject: Subject) -> list[int]:
        """Note a result, and return the earlier ones that it supersedes."""
        key = _digest(subject.identity)
        same = self._by_identity.get(key)
        found = [] if same is None else [same]
        self._by_identity[key] = index
        if subject.path is None or subject.deed is None:
            return found
        if subject.deed is Deed.WRITES:
            for name in self._readers.pop(subject.path, ()):
                found += self._reads.pop((name, subject.path), ())
            return found
        if subject.whole:
            found += self._reads.pop((subject.name, subject.path), ())
        self._readers.setdefault(subject.path, set()).add(subject.name)
        self._reads.setdefault((subject.name, subject.path), []).append(index)
        return found

    def repeated(self, index: int, content: Raw) -> int | None:
        """Note a result's content, and return the newest earlier result with the same, if there is one."""
        if len(memoryview(content)) <= SHORTEST:
            return None
        key = _digest(content)
        same = self._by_content.get(key)
        self._by_content[key] = index
        return same


def _digest(data: Raw | bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
