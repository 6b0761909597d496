"""What the simulated provider says. Pure: the same bytes for the same request.

``ask`` reads a body and refuses what OpenAI refuses, ``reply`` decides what is said, ``calls`` which tools are
called, ``wire`` gives it OpenAI's shapes, and ``schema`` finds a value for any JSON schema. What a real model
may say is not imitated; what it has to keep to is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from flatfee.server.providers.simulation.ask import Ask, read_ask
from flatfee.server.providers.simulation.refusal import RefusedError
from flatfee.server.providers.simulation.reply import Said, answer
from flatfee.server.providers.simulation.schema import SpentError, instance
from flatfee.server.providers.simulation.tokens import BYTES_PER_TOKEN
from flatfee.server.providers.simulation.wire import completion, events

_T = TypeVar("_T")
_TOO_MUCH = "This takes the simulated model too long. Send smaller and flatter schemas, or ask for fewer choices."

__all__ = ["BYTES_PER_TOKEN", "RefusedError", "instance", "plain", "streamed"]


def plain(body: bytes) -> bytes:
    """Return the completion for a request body.

    Raises:
        RefusedError: OpenAI would refuse it, or no value was found for its schemas.
    """
    return _answered(body, completion)


def streamed(body: bytes) -> list[bytes]:
    """Return the events of a streamed completion for a request body, ``[DONE]`` included.

    Raises:
        RefusedError: OpenAI would refuse it, or no value was found for its schemas.
    """
    return _answered(body, events)


def _answered(body: bytes, shape: Callable[[Ask, Sequence[Said], bytes], _T]) -> _T:
    try:
        ask = read_ask(body)
        return shape(ask, answer(ask), body)
    except (SpentError, RecursionError):
        raise RefusedError(_TOO_MUCH) from None
