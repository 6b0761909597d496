"""The body that goes upstream: the caller's, with what a route's API needs otherwise. Pure; bytes in, bytes out.

Values pass through as the bytes that came. What differs between the OpenAI-compatible services is data, in a
provider's ``Dialect``; an API of another shape is translated by its provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw

from flatfee.server.ask import OBJECT, Ask, read_field
from flatfee.server.estimating import estimate_text
from flatfee.server.providers.dialect import PLAIN, Dialect

_USAGE: Final = Raw(b"true")
_ONLY_USAGE: Final = Raw(b'{"include_usage":true}')
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
"""Names of the most tokens of an answer; the first one counts where both are there."""

_NOTHING: Final = frozenset({b"", b"null"})
_DEVELOPER: Final = b'"developer"'
_SYSTEM: Final = Raw(b'"system"')
_ASSISTANT: Final = b'"assistant"'
_TOOL: Final = b'"tool"'
_CALLS: Final = b'"tool_calls"'
_THOUGHTS: Final = "reasoning_content"
_NO_THOUGHT: Final = Raw(b'""')

_OF_A_CALL: Final = frozenset({"id", "type", "function"})
_objects: Final = msgspec.json.Decoder(list[dict[str, Raw]])


def body_for(ask: Ask, model: str, dialect: Dialect) -> bytes:
    """Return the upstream body: the caller's, with the route's model and, streamed, usage asked for."""
    return _encoded(ask, dict(ask.fields), model, dialect)


def body_after(ask: Ask, model: str, said: str, dialect: Dialect) -> bytes:
    """Return the upstream body for a route that goes on from what was said: as the assistant's own last words.

    What it may still say is less by about as much.
    """
    fields = dict(ask.fields)
    begun = {"role": "assistant", "content": said} | ({"prefix": True} if dialect.prefill == "prefix" else {})
    words = msgspec.json.encode(begun)
    fields["messages"] = Raw(bytes(fields["messages"]).rstrip()[:-1] + b"," + words + b"]")
    if dialect.prefill == "continue":
        fields |= {"continue_final_message": Raw(b"true"), "add_generation_prompt": Raw(b"false")}
    for name in _LIMITS:
        if (most := bytes(fields.get(name, b""))).isdigit():
            fields[name] = Raw(b"%d" % max(1, int(most) - estimate_text(said.encode())))
    return _encoded(ask, fields, model, dialect)


def _encoded(ask: Ask, fields: MutableMapping[str, Raw], model: str, dialect: Dialect) -> bytes:
    fields["model"] = Raw(msgspec.json.encode(model))
    if dialect is not PLAIN:
        _translate(fields, dialect)
    if ask.stream and dialect.stream_options:
        options = read_field(fields, "stream_options", OBJECT)
        told = Raw(msgspec.json.encode({**options, "include_usage": _USAGE})) if options else _ONLY_USAGE
        fields["stream_options"] = told
    return msgspec.json.encode(fields)


def _translate(fields: MutableMapping[str, Raw], dialect: Dialect) -> None:
    """Say what the caller said in the words that a service knows."""
    for name in dialect.leave_out:
        fields.pop(name, None)
    if not dialect.stream_options:
        fields.pop("stream_options", None)
    if dialect.output_limit is not None:
        told = [most for name in _LIMITS if bytes(most := fields.pop(name, Raw())) not in _NOTHING]
        if told:
            fields[dialect.output_limit] = told[0]
    for name, known in dialect.rename.items():
        if name in fields:
            fields.setdefault(known, fields.pop(name))
    _translate_messages(fields, dialect)


@lru_cache(maxsize=64)
def _any_of(names: frozenset[str]) -> re.Pattern[bytes]:
    """Return what finds one of the names in one pass: a history may be megabytes."""
    return re.compile(b'"(?:%b)"' % b"|".join(re.escape(name.encode()) for name in names))


def _translate_messages(fields: MutableMapping[str, Raw], dialect: Dialect) -> None:
    """Translate the history; where nothing in it needs that, it stays the bytes that came, and is not decoded."""
    came = bytes(fields["messages"])
    roles = not dialect.developer and _DEVELOPER in came
    names = not dialect.tool_names and _TOOL in came
    unknown = dialect.leave_out_of_answers
    if unknown and not _any_of(unknown).search(came):
        unknown = frozenset()
    thoughts = dialect.wants_thoughts and _CALLS in came
    if not (roles or names or unknown or thoughts):
        return
    messages = _objects.decode(came)
    for message in messages:
        role = bytes(message["role"])
        if roles and role == _DEVELOPER:
            message["role"] = _SYSTEM
        if names and role == _TOOL:
            message.pop("name", None)
        if role == _ASSISTANT:
            _translate_answer(message, unknown, thoughts=thoughts)
    fields["messages"] = Raw(msgspec.json.encode(messages))


def _without(call: Mapping[str, Raw], unknown: frozenset[str]) -> dict[str, Raw]:
    return {name: value for name, value in call.items() if name in _OF_A_CALL or name not in unknown}


def _translate_answer(message: MutableMapping[str, Raw], unknown: frozenset[str], *, thoughts: bool) -> None:
    for name in unknown:
        message.pop(name, None)
    calls = message.get("tool_calls", Raw())
    if unknown and _any_of(unknown).search(calls):
        with suppress(msgspec.ValidationError):  # what is no list of calls is its provider's to refuse
            message["tool_calls"] = Raw(
                msgspec.json.encode([_without(call, unknown) for call in _objects.decode(calls)])
            )
    if thoughts and "prefix" not in message and bytes(message.get(_THOUGHTS, Raw())) in _NOTHING:
        message[_THOUGHTS] = _NO_THOUGHT
