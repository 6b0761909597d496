"""Reading a file of exported receipts, line by line and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import BinaryIO

from flatfee.server.replaying.past import LONGEST_LINE, AccountLine, BadLine, Past, read_line


class Reader:
    """Reads requests, and gives the accounts among them to ``accounts``. ``skipped`` counts bad lines.

    ``skip_bad`` passes them over; otherwise the first one ends it.
    """

    def __init__(
        self,
        file: BinaryIO,
        accounts: MutableMapping[str, AccountLine],
        *,
        skip_bad: bool = False,
        seen: Callable[[int, int], None] = lambda lines, size: None,  # noqa: ARG005 - the shape of ``seen``
    ) -> None:
        self._file = file
        self._accounts = accounts
        self._skip_bad = skip_bad
        self._seen = seen
        self.skipped = 0
        self.lines = 0

    def __iter__(self) -> Iterator[Past]:
        """Yield the requests in the order of the file.

        Raises:
            BadLine: a line is no receipt; the message names its number.
        """
        while text := self._file.readline(LONGEST_LINE + 1):
            self.lines += 1
            self._seen(self.lines, len(text))
            try:
                found = read_line(text) if text.strip() else None
            except BadLine as error:
                if not self._skip_bad:
                    message = f"line {self.lines}: {error}"
                    raise BadLine(message) from error
                self.skipped += 1
                self._to_its_end(text)
                continue
            if isinstance(found, AccountLine):
                self._accounts[found.name] = found
            elif found is not None:
                yield found

    def _to_its_end(self, text: bytes) -> None:
        while len(text) > LONGEST_LINE and not text.endswith(b"\n"):
            text = self._file.readline(LONGEST_LINE + 1)
