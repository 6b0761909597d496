"""The body that goes upstream: the caller's, with what a route's API needs otherwise. Pure; bytes in, bytes out.

Values pass through as the bytes that came. What differs between the OpenAI-compatible services is data, in a
provider's ``Dialect``; an API of another shape is translated by its provider.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import msgspec
from msgspec import Raw

from flatfee.server.ask import Ask, decode_field
from flatfee.server.estimating import estimate_tokens
from flatfee.server.providers.dialect import Dialect

_USAGE = Raw(b"true")


def body_for(ask: Ask, model: str, dialect: Dialect) -> bytes:
    """Return the upstream body: the caller's, with the route's model and, streamed, usage asked for."""
    return _encoded(ask, dict(ask.fields), model, dialect)


def body_after(ask: Ask, model: str, said: str, dialect: Dialect) -> bytes:
    """Return the upstream body for a route that goes on from what was said: as the assistant's own last words.

    What it may still say is less by about as much.
    """
    fields = dict(ask.fields)
    words = msgspec.json.encode({"role": "assistant", "content": said})
    fields["messages"] = Raw(bytes(fields["messages"]).rstrip()[:-1] + b"," + words + b"]")
    for name in ("max_completion_tokens", "max_tokens"):
        if (most := bytes(fields.get(name, b""))).isdigit():
            fields[name] = Raw(b"%d" % max(1, int(most) - estimate_tokens(len(said.encode()))))
    return _encoded(ask, fields, model, dialect)


def _encoded(ask: Ask, fields: MutableMapping[str, Raw], model: str, dialect: Dialect) -> bytes:
    fields["model"] = Raw(msgspec.json.encode(model))
    if ask.stream and dialect.stream_options:
        options = decode_field(fields.get("stream_options"), dict[str, Raw], "stream_options") or {}
        fields["stream_options"] = Raw(msgspec.json.encode({**options, "include_usage": _USAGE}))
    return msgspec.json.encode(fields)
