"""What the simulated provider says. Pure: the same bytes for the same request.

``ask`` reads a body and refuses what OpenAI refuses, ``reply`` decides what is said, ``calls`` which tools are
called, ``wire`` gives it OpenAI's shapes, and ``schema`` finds a value for any JSON schema. What a real model
may say is not imitated; what it has to keep to is kept.
"""

from __future__ import annotations

from flatfee.server.providers.simulation.ask import read_ask
from flatfee.server.providers.simulation.refusal import RefusedError
from flatfee.server.providers.simulation.reply import answer
from flatfee.server.providers.simulation.schema import instance
from flatfee.server.providers.simulation.wire import completion, events

__all__ = ["RefusedError", "instance", "plain", "streamed"]


def plain(body: bytes) -> bytes:
    """Return the completion for a request body.

    Raises:
        RefusedError: OpenAI would refuse it, or no value was found for its schemas.
    """
    ask = read_ask(body)
    return completion(ask, answer(ask), body)


def streamed(body: bytes) -> list[bytes]:
    """Return the events of a streamed completion for a request body, ``[DONE]`` included.

    Raises:
        RefusedError: OpenAI would refuse it, or no value was found for its schemas.
    """
    ask = read_ask(body)
    return events(ask, answer(ask), body)
