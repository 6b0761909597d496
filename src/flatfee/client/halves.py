"""Characters that a provider cut in half, put together again. Sans-IO.

A server whose strings are UTF-16 may send a character outside the basic plane as two halves, one in each of
two events. Each event is JSON, and no text: only both together are.
"""

from __future__ import annotations

import json
from typing import Any


class Halves:
    """Mends the events of one stream whose text of a choice ends in half a character."""

    def __init__(self) -> None:
        self._first: dict[Any, str] = {}

    def mend(self, data: bytes) -> bytes:
        """Return an event without half characters: a first half waits, and stands before what comes next.

        Raises:
            ValueError: it is not JSON (``RecursionError``: too deep), or nothing that can be mended.
        """
        event = json.loads(data)
        try:
            for choice in event["choices"]:
                delta = choice["delta"]
                delta["content"] = self._whole(choice.get("index"), delta["content"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError from error
        return json.dumps(event).encode()

    def _whole(self, index: Any, text: str) -> str:
        text = self._first.pop(index, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._first[index], text = text[-1], text[:-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
