"""Where other people's objects keep a receipt, or a failure of ours: ``Receipt.of`` and ``classify``.

Objects are looked into by the names of their attributes and members, nearest first; no framework is
imported, no method is called, and the search is bounded. Nothing here performs I/O: a response whose body
was not read tells what its headers tell.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from flatfee.errors import APIStatusError, FlatfeeError, from_wire
from flatfee.receipt import Receipt
from flatfee.wire import ERRORS, Header

MOST_PLACES: Final = 200
"""Objects that one search looks into."""
MOST_MEMBERS: Final = 8
"""Of a list, its last members: the last chunk and the last answer have the receipt."""
LARGEST_BODY: Final = 16 * 1024 * 1024
"""Bytes of a response's body that are read."""

_LITELLM: Final = "llm_provider-"
"""LiteLLM's mark on the names of a provider's headers."""

_REQUEST_ID: Final = re.compile(r"req_[0-9A-HJKMNP-TV-Z]{26}")

_NAMES: Final = (
    *("receipt", "flatfee"),  # ours
    *("model_extra", "body", "headers"),  # openai-python, and every HTTP library
    *("response", "http_response", "raw", "_raw_response"),  # errors, LlamaIndex, smolagents, instructor
    *("response_metadata", "generation_info", "llm_output", "additional_kwargs"),  # LangChain, LlamaIndex
    *("message", "messages", "generations"),
    *("provider_details", "vendor_details"),  # pydantic-ai
    *("raw_responses", "run_data"),  # openai-agents
    *("_hidden_params", "_response_headers", "response_headers", "additional_headers", "litellm_response_headers"),
    "error",
)
"""Attributes and members that may lead to a receipt, in the order in which they are looked at."""

_PLAIN: Final = (str, bytes, bytearray, int, float, complex, type, type(None))


def receipt_in(source: object) -> Receipt | None:
    """Return the nearest receipt in ``source``; ``None`` if there is none. Never fails.

    What headers tell of a request is completed by what a body further in tells of the same one.
    """
    found: Receipt | None = None
    named: Receipt | None = None
    for here in _places(source):
        named = named or _id_here(here)
        told = _receipt_here(here)
        if told is not None and (found is None or told.request_id == found.request_id):
            found = found.merge(told) if found else told
            if found.state is not None:
                break
    return found or named


def classify(error: BaseException) -> FlatfeeError | None:
    """Return the failure of ours in an exception that a framework raised, so that it can be told by its class.

    That is the exception itself if it is ours, one that it came from (``__cause__``, ``__context__``, a group's
    members), or one made from the gateway's answer that another SDK's exception carries; its ``__cause__`` is
    ``error`` then. ``None`` if no gateway of ours has anything to do with it.
    """
    places = list(_places(error))
    ours = next((here for here in places if isinstance(here, FlatfeeError)), None)
    if ours is not None:
        return ours
    made = next((found for here in places if (found := _answered(here)) is not None), None)
    if made is not None:
        made.receipt = made.receipt or receipt_in(error)
        made.__cause__ = error
    return made


def _places(source: object) -> Iterator[object]:
    """Yield ``source`` and what it leads to, nearest first."""
    queue, seen = deque([source]), {id(source): source}  # kept, or another object might get the same id
    while queue:
        here = queue.popleft()
        yield here
        for there in _ways_from(here) if len(seen) < MOST_PLACES else ():
            if id(there) not in seen:
                seen[id(there)] = there
                queue.append(there)


def _ways_from(here: object) -> Iterator[object]:
    if isinstance(here, list | tuple):
        members: Iterator[object] = islice(reversed(here), MOST_MEMBERS)
    elif isinstance(here, Mapping):
        members = (_member(here, name) for name in _NAMES)
    else:
        members = (_attribute(here, name) for name in _NAMES)
    yield from (there for there in members if not isinstance(there, _PLAIN))
    if isinstance(here, BaseException):
        yield from _causes(here)


def _causes(error: BaseException) -> Iterator[object]:
    if error.__cause__ is not None:
        yield error.__cause__
    if isinstance(error, BaseExceptionGroup):
        yield from islice(error.exceptions, MOST_MEMBERS)
    yield from (cause for cause in error.args[:MOST_MEMBERS] if isinstance(cause, BaseException))
    if error.__context__ is not None:
        yield error.__context__


def _receipt_here(here: object) -> Receipt | None:
    for own in (here, _attribute(here, "receipt"), _attribute(here, "flatfee")):
        if isinstance(own, Receipt):
            return own
    if isinstance(here, Mapping):
        body = dict(_items(here))
        return Receipt.from_answer(_headers(body), body) or _bare(body)
    return Receipt.from_answer(_headers(_attribute(here, "headers")), _body_of(here))


def _bare(found: Mapping[Any, Any]) -> Receipt | None:
    """Read a receipt that stands by itself: it has an id, and a lane or a state."""
    if "request_id" in found and ("lane" in found or "state" in found):
        return Receipt.from_object(found)
    return None


def _id_here(here: object) -> Receipt | None:
    """Read a request id of ours where a framework keeps nothing else: the receipt can be asked for by it."""
    name = _member(here, "request_id") if isinstance(here, Mapping) else _attribute(here, "request_id")
    return Receipt(request_id=name) if isinstance(name, str) and _REQUEST_ID.fullmatch(name) else None


def _headers(found: object) -> dict[str, str]:
    """Return the gateway's headers among others, under their own names."""
    headers: dict[str, str] = {}
    if isinstance(found, Mapping):
        for name, value in _items(found):
            if isinstance(name, str) and isinstance(value, str):
                headers.setdefault(name.lower().removeprefix(_LITELLM), value)
    return headers


def _body_of(here: object) -> object:
    """Return the decoded body of a response that has been read.

    The bytes are taken from where ``httpx``, ``requests`` and ``aiohttp`` keep them: what is public reads the
    rest from the network, or has to be awaited.
    """
    kept = _attribute(here, "__dict__")
    if not isinstance(kept, Mapping):
        return None
    content = kept.get("_content", kept.get("_body"))
    if not isinstance(content, bytes) or len(content) > LARGEST_BODY:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _answered(here: object) -> APIStatusError | None:
    """Make our exception from the answer that an exception carries."""
    if not isinstance(here, BaseException):
        return None
    response = _attribute(here, "response")
    body = _body_of(response) or _attribute(here, "body")
    headers = _headers(_attribute(response, "headers")) or _headers(_attribute(here, "headers"))
    envelope = body if isinstance(body, Mapping) else {}
    if "error" not in envelope:  # openai-python keeps the inner object
        envelope = {"error": dict(envelope)}
    if Header.REQUEST_ID not in headers and Receipt.from_body(envelope) is None:
        code = _member(envelope["error"], "code")
        if headers or not isinstance(code, str) or code not in ERRORS:  # other services have a few of the same codes
            return None
    status = _attribute(here, "status_code")
    return from_wire(status if isinstance(status, int) else 0, headers, envelope)


def _attribute(here: object, name: str) -> object:
    try:
        return getattr(here, name, None)
    except Exception:  # noqa: BLE001 - a property of a class that nobody here knows
        return None


def _member(here: object, name: str) -> object:
    try:
        return here.get(name) if isinstance(here, Mapping) else None
    except Exception:  # noqa: BLE001 - a mapping of a class that nobody here knows
        return None


def _items(found: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    try:
        return list(found.items())
    except Exception:  # noqa: BLE001 - a mapping of a class that nobody here knows
        return []
