"""What a caller asks for: one parse of headers and body. Pure; no I/O.

The body is taken apart at its top level only; every value stays the bytes that came, and the upstream
body (``bodies``) is put together from the same values. So what policy saw is what the provider gets.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from flatfee.server.estimating import count_all_images, estimate_prompt
from flatfee.server.faults import Fault
from flatfee.wire import MAX_IDEMPOTENCY_KEY, WORKFLOW_ID, ErrorCode, Header, OnExhausted, Task

_E = TypeVar("_E", Task, OnExhausted)
_T = TypeVar("_T")

_SHORT: Final = 4096
"""Bytes of a body of which it is cheaper to write it again than to look at each of its names."""

MAX_CHOICES: Final = 128
MAX_OUTPUT: Final = 1 << 31
TOOL_ROLES: Final = frozenset({"tool", "function"})
"""Roles of messages that tell a tool's result."""
MAX_DEADLINE_MS: Final = 24 * 3600 * 1000

_TASK: Final = Header.TASK.encode()
_ON_EXHAUSTED: Final = Header.ON_EXHAUSTED.encode()
_WORKFLOW: Final = Header.WORKFLOW.encode()
_DEADLINE_MS: Final = Header.DEADLINE_MS.encode()
_IDEMPOTENCY_KEY: Final = Header.IDEMPOTENCY_KEY.encode()


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request for a completion. Tokens are estimates; ``output_tokens`` is what was asked for.

    ``fields`` are the body's top-level values as they came.
    """

    model: str
    stream: bool
    include_usage: bool
    fields: Mapping[str, Raw]
    prompt_tokens: int
    output_tokens: int | None
    choices: int
    tools: bool
    images: bool
    json_schema: bool
    reasoning_effort: str | None
    in_tool_loop: bool
    task: Task | None
    on_exhausted: OnExhausted
    workflow: str | None
    deadline_ms: int | None

    @property
    def one_text(self) -> bool:
        """Whether a text that breaks off could be gone on with by another: one choice, without figures of its own."""
        return self.choices == 1 and bytes(self.fields.get("logprobs", b"null")) in {b"null", b"false"}

    @property
    def may_be_prefilled(self) -> bool:
        """Whether a text can be given to a route as the beginning of its answer.

        Not where the form of the answer is prescribed, for that is enforced from its first token on, nor after
        words that the caller gave the assistant itself.
        """
        form = read_field(self.fields, "response_format", OBJECT) or {}
        prescribed = bytes(form.get("type", b'"text"')) != b'"text"'
        return not prescribed and _messages.decode(self.fields["messages"])[-1].role != "assistant"


class _Message(msgspec.Struct, gc=False):
    """The part of a message that policy looks at."""

    role: str
    content: Raw | UnsetType = UNSET


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Name:
    """A member's name that equals no other, so that a name which comes twice is seen."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


# A decoder for each type, made once: to be told the type by each call costs 1.4 us, twenty times the decoding.
OBJECT: Final = msgspec.json.Decoder(dict[str, Raw] | None)
_TEXT: Final = msgspec.json.Decoder(str | None)
_FLAG: Final = msgspec.json.Decoder(bool | None)
_NUMBER: Final = msgspec.json.Decoder(int | None)
_LIST: Final = msgspec.json.Decoder(list[Raw] | None)
_OPTIONS: Final = msgspec.json.Decoder(_StreamOptions | None)
_messages: Final = msgspec.json.Decoder(list[_Message])
_members: Final = msgspec.json.Decoder(dict[str, Raw])
_all_members: Final = msgspec.json.Decoder(dict[_Name, Raw], dec_hook=lambda _, text: _Name(text))


def read_ask(headers: Mapping[bytes, bytes], body: bytes) -> Ask:
    """Read a request.

    Raises:
        Fault: ``invalid_request``, naming the field and the cure.
    """
    fields = _read_fields(body)
    model = read_field(fields, "model", _TEXT)
    if not model:
        raise _invalid("model is missing; send 'auto', 'premium' or 'economy'", "model")
    stream = read_field(fields, "stream", _FLAG) or False
    options = read_field(fields, "stream_options", _OPTIONS)
    messages = _read_messages(fields)
    contents = [message.content for message in messages]
    images = count_all_images(fields["messages"], contents)
    choices = _bounded(fields, "n", MAX_CHOICES) or 1
    output = _bounded(fields, "max_completion_tokens", MAX_OUTPUT) or _bounded(fields, "max_tokens", MAX_OUTPUT)
    return Ask(
        model=model,
        stream=stream,
        include_usage=bool(options and options.include_usage),
        fields=fields,
        prompt_tokens=estimate_prompt(fields, contents, images),
        output_tokens=output,
        choices=choices,
        tools=bool(read_field(fields, "tools", _LIST)) or bool(read_field(fields, "functions", _LIST)),
        images=images > 0,
        json_schema=_wants_schema(fields),
        reasoning_effort=read_field(fields, "reasoning_effort", _TEXT),
        in_tool_loop=messages[-1].role in TOOL_ROLES,
        task=_choice(headers.get(_TASK), Header.TASK, Task),
        on_exhausted=_choice(headers.get(_ON_EXHAUSTED), Header.ON_EXHAUSTED, OnExhausted) or OnExhausted.CONTINUE,
        workflow=_workflow(headers.get(_WORKFLOW)),
        deadline_ms=_deadline(headers.get(_DEADLINE_MS)),
    )


def _read_fields(body: bytes) -> dict[str, Raw]:
    """Return the members of the body; none is there twice."""
    try:
        if not body.isascii():
            body.decode()
        if len(body) <= _SHORT:
            fields = _members.decode(body)
            # Read so, the last of two equal names wins. No written name is shorter than it is written here, so as many
            # bytes as came are all that came; with spaces, as most write them, it must be the same bytes.
            again = msgspec.json.encode(fields)
            if len(again) == len(body) or msgspec.json.format(again, indent=0) == body:
                return fields
        members = _all_members.decode(body)
    except UnicodeDecodeError as error:
        raise _invalid(f"The body is not UTF-8: byte {error.start} is not valid.") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(f"The body is not a JSON object: {error}.") from error
    fields = {name.text: value for name, value in members.items()}
    if len(fields) < len(members):
        # Who checked the body before us may have read the other one. Further in, a provider gets the bytes that came.
        twice = next(name for name, times in Counter(name.text for name in members).items() if times > 1)
        raise _invalid(f"The member {twice[:40]!r} is there more than once; send it once.", twice[:40])
    return fields


def _read_messages(fields: Mapping[str, Raw]) -> list[_Message]:
    raw = fields.get("messages")
    if raw is None:
        raise _invalid("messages is missing; send a list of messages", "messages")
    try:
        messages = _messages.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(f"messages must be a list of objects with a role: {error}.", "messages") from error
    if not messages:
        raise _invalid("messages is empty; send at least one message", "messages")
    return messages


def _wants_schema(fields: Mapping[str, Raw]) -> bool:
    wanted = read_field(fields, "response_format", OBJECT)
    return wanted is not None and bytes(wanted.get("type", b"")) == b'"json_schema"'


def _bounded(fields: Mapping[str, Raw], name: str, most: int) -> int | None:
    value: int | None = read_field(fields, name, _NUMBER)
    if value is not None and not 1 <= value <= most:
        raise _invalid(f"{name} is {value}; send a whole number from 1 to {most}", name)
    return value


def read_field(fields: Mapping[str, Raw], name: str, decoder: msgspec.json.Decoder[_T]) -> _T | None:
    """Return a top-level value by a decoder that knows null; ``None`` if it is absent or null.

    Raises:
        Fault: ``invalid_request``: it is of another type.
    """
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(f"{name} has the wrong type: {error}.", name) from error


def _choice(text: bytes | None, name: str, choices: type[_E]) -> _E | None:
    if text is None:
        return None
    try:
        return choices(text.decode("latin-1"))
    except ValueError as error:
        known = ", ".join(choices)
        raise _invalid(f"{name} is {_shown(text)}; send one of: {known}", name) from error


def _workflow(text: bytes | None) -> str | None:
    if text is None:
        return None
    workflow = text.decode("latin-1")
    if not WORKFLOW_ID.fullmatch(workflow):
        raise _invalid(f"{Header.WORKFLOW} is {_shown(text)}; send 1 to 128 of A-Z a-z 0-9 . _ : -", Header.WORKFLOW)
    return workflow


def _deadline(text: bytes | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= MAX_DEADLINE_MS:
        raise _invalid(
            f"{Header.DEADLINE_MS} is {_shown(text)}; send whole milliseconds from 1 to {MAX_DEADLINE_MS}",
            Header.DEADLINE_MS,
        )
    return int(text)


def read_idempotency_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Return the ``Idempotency-Key`` as it was sent, if it was. It is not to be kept; its digest may be.

    Raises:
        Fault: ``invalid_request``: it is empty or too long.
    """
    text = headers.get(_IDEMPOTENCY_KEY)
    if text is None:
        return None
    if not 1 <= len(text) <= MAX_IDEMPOTENCY_KEY:
        raise _invalid(
            f"Idempotency-Key has {len(text)} characters; send 1 to {MAX_IDEMPOTENCY_KEY}", Header.IDEMPOTENCY_KEY
        )
    return text


def digests_of(key: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return what tells one idempotency key from another, and one body from another under the same key.

    The key itself is what makes the body's digest secret, and is kept nowhere: who reads the ledger cannot
    try there whether a body was a certain one, unless the key can be guessed too. Its length comes first,
    so that what is hashed for a body is never a continuation of what is hashed for a key.
    """
    of_body = hashlib.sha256(b"%d:%b" % (len(key), key))
    of_body.update(body)
    return hashlib.sha256(key).digest(), of_body.digest()


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("latin-1")) + ("…" if len(text) > 40 else "")


def _invalid(message: str, param: str | None = None) -> Fault:
    return Fault(ErrorCode.INVALID_REQUEST, message if message.endswith(".") else message + ".", param=param)
