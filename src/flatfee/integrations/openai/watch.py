"""What becomes of a stream that openai-python reads: its receipt, and its one end. Sans-IO.

The rules are those of ``flatfee.client.stream``: an answer is whole when every choice that appeared
has its finish reason, and everything else is an error with a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import openai

from flatfee.collecting import active
from flatfee.errors import APIConnectionError, APIResponseValidationError, StreamTruncated, from_wire
from flatfee.integrations.openai.errors import both, renamed
from flatfee.receipt import Receipt
from flatfee.wire import ReceiptState


class Watch:
    """Sees the events of one stream as text, and its chunks as openai-python made them.

    ``completion`` says that chunks of a chat completion are to come, whose end can be told from a cut.
    """

    def __init__(self, response: Any, *, completion: bool) -> None:
        self.event: str = ""
        self._response = response
        self._completion = completion
        self._body: Mapping[str, Any] | None = None
        self._text: list[str] = []
        self._running: set[int] = set()
        self._finished: set[int] = set()
        self._run = active()
        self.note()

    @property
    def receipt(self) -> Receipt | None:
        """What is known by now: from the headers first, and in the end with settled figures."""
        known = Receipt.from_answer(self._response.headers, self._body)
        if known and self._body is None:
            return known.merge(Receipt(state=ReceiptState.IN_FLIGHT))
        return known

    @property
    def whole(self) -> bool:
        """Whether every choice that appeared has its finish reason."""
        return bool(self._finished) and not self._running

    def note(self) -> None:
        """Tell the run in which the stream began what is known by now."""
        if self._run is None:
            return  # nobody else wants it made
        receipt = self.receipt
        if receipt is not None:
            self._run.note(receipt)

    def see(self, chunk: Any) -> None:
        """Look at a chunk on its way to the caller."""
        extra = getattr(chunk, "model_extra", None)
        if extra and "flatfee" in extra:
            self._body = extra
        if self._completion:
            for choice in chunk.choices or ():
                self._see_choice(choice)

    def _see_choice(self, choice: Any) -> None:
        if choice.index == 0 and choice.delta and choice.delta.content:
            self._text.append(choice.delta.content)
        if choice.finish_reason:
            self._finished.add(choice.index)
            self._running.discard(choice.index)
        elif choice.index not in self._finished:
            self._running.add(choice.index)

    def end(self) -> None:
        """Take note that no more chunks will come.

        Raises:
            StreamTruncated: the answer is not whole.
        """
        if self._completion and not self.whole:
            raise self._ended(both(StreamTruncated("The stream ended without a finish reason.")))

    def failed(self, error: Exception) -> None:
        """Take note of what openai-python raised, and raise it under its name.

        A connection that breaks after the finish is no failure.

        Raises:
            APIError: of both families. What has nothing to do with the gateway is raised as it came.
        """
        failure = self._failure(error)
        if failure is None:
            raise error
        if not (self.whole and isinstance(failure, APIConnectionError)):
            raise self._ended(failure) from error

    def _failure(self, error: Exception) -> Any:
        if isinstance(error, ValueError | TypeError | AttributeError):  # openai-python checks no chunk's shape
            return both(APIResponseValidationError("An event of the stream is not a valid completion event."))
        envelope = _decoded(self.event) if type(error) is openai.APIError else {}
        if not envelope.get("error"):
            return renamed(error)
        if "flatfee" in envelope:
            self._body = envelope
        return both(from_wire(200, self._response.headers, envelope))

    def _ended(self, error: Any) -> Any:
        error.receipt = error.receipt or self.receipt
        error.partial = "".join(self._text)
        error.request, error.response = self._response.request, self._response
        return error


def _decoded(data: str) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
