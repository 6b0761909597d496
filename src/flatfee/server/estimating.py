"""How many tokens a request's prompt has, before anybody has counted them. Pure: bytes in, a number out.

The estimate decides on rules, on eligibility and on what is held back; what is charged are the provider's counts.
How far it is off, by kind of text and tokeniser, is measured and published: docs/operations/estimates.md.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

BYTES_PER_TOKEN: Final = 4
"""Where only a size is known: that of an answer, whose text went by."""

MARK: Final = 100
"""Hundredths of a token for a capital or a digit: names, numbers and encoded data are short tokens."""
SPACE: Final = 5
"""For a space: it belongs to the word behind it, and a whole indentation is one token."""
OTHER: Final = 28
"""For each other byte: of words, of signs, of letters beyond ASCII."""
SAMPLE: Final = 4096
"""Of a longer text about so many bytes are looked at, spread evenly over it."""
WIDEST: Final = 32
"""And no fewer than two of so many: what is left of a conversation once it is trimmed is a difference of estimates."""
PIECE: Final = 1024
PIECES: Final = 16
"""So many pieces of a text are searched for escapes."""

TOKENS_PER_MESSAGE: Final = -4
"""A message's role, names and braces are about eight tokens of JSON, and about four to a model."""
TOKENS_PER_REQUEST: Final = 3
"""What begins the answer."""
TOKENS_PER_MEDIUM: Final = 1000
"""An image, a recording or a file, whatever its size: its data is no text."""

_MOST_PARTS: Final = 100_000
"""Messages that may have more parts are taken for text: to go through so many takes memory, and holds others up."""

_BESIDE_MESSAGES: Final = ("tools", "functions", "response_format")
"""Fields that the provider puts into the prompt, too."""
_MEDIA: Final = frozenset({"image_url", "input_audio", "file", "video_url"})
"""Parts of a message that are no text, by their type; each is known by what OpenAI or vLLM document."""

_OPENS_LIST: Final = ord("[")
_IMAGE: Final = b'"image_url"'

_MARKS: Final = (string.ascii_uppercase + string.digits).encode()
_NO_MARKS: Final = bytes(set(range(256)) - set(_MARKS))


class _Part(msgspec.Struct):
    type: str = ""


def estimate_tokens(size: int) -> int:
    """Return about how many tokens ``size`` bytes of text are: a quarter, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def estimate_text(text: bytes) -> int:
    """Return about how many tokens a text is, plain or as JSON spells it."""
    if not text:
        return 0
    sample = _sampled(text)
    size = len(sample)
    if sample.count(b"\\") * 16 > size:
        sample, size = _unescaped(text)
    marks = len(sample.translate(None, _NO_MARKS))
    spaces = sample.count(b" ")
    weight = MARK * marks + SPACE * spaces + OTHER * (len(sample) - marks - spaces)
    return -(-weight * len(text) // (100 * size))


def _sampled(text: bytes) -> bytes:
    if len(text) <= SAMPLE:
        return text
    # Two steps without a common divisor: rows of one length, if met at one column by the one, are not by the other.
    step = min(2 * len(text) // SAMPLE, WIDEST) | 1
    return text[::step] + text[:: step + 2]


def _unescaped(text: bytes) -> tuple[bytes, int]:
    """Return pieces of a text, their letters that are escaped by number as long as in UTF-8; and their size before.

    Else the digits of each would pass for tokens. A single byte does not tell that it belongs to an escape.
    """
    pieces = [text[start : start + PIECE] for start in range(0, len(text), max(PIECE, len(text) // PIECES))]
    seen = b"".join(pieces)
    first, *rest = seen.split(b"\\u")
    return first + b"".join([(b"xx" if part < b"08" else b"xxx") + part[4:] for part in rest]), len(seen)


def estimate_prompt(fields: Mapping[str, Raw], contents: Sequence[Raw | UnsetType], images: int) -> int:
    """Return about how many tokens a prompt has: ``fields`` of the body, the ``contents`` of its messages."""
    messages, media = bytes(fields["messages"]), 0
    if images or (len(messages) > SAMPLE and _may_hold_media(contents)):
        messages, media = _without_media(messages, images)
    tokens = estimate_text(messages)
    for name in _BESIDE_MESSAGES:
        if name in fields:
            tokens += estimate_text(bytes(fields[name]))
    tokens += TOKENS_PER_MESSAGE * len(contents) + TOKENS_PER_REQUEST + TOKENS_PER_MEDIUM * media
    return max(1, tokens)


def count_all_images(messages: Raw, contents: Sequence[Raw | UnsetType]) -> int:
    """Count the image parts of all messages, of which these are the contents."""
    if len(messages) <= SAMPLE and _IMAGE not in bytes(messages):  # to search a long one costs more than to look
        return 0
    # Of hundreds of messages, most are no lists: those are not worth a call.
    lists = [content for content in contents if content is not UNSET and memoryview(content)[0] == _OPENS_LIST]
    return sum(map(count_images, lists))


def count_images(content: Raw | UnsetType) -> int:
    """Count a message's image parts; each names ``image_url`` as its type and as its key."""
    if content is UNSET or not _is_list(content):
        return 0
    return bytes(content).count(_IMAGE) // 2


def _may_hold_media(contents: Sequence[Raw | UnsetType]) -> bool:
    """Tell whether one of the contents is worth a second look: of parts, and large. Data is."""
    return any(content is not UNSET and len(content) > SAMPLE and _is_list(content) for content in contents)


def _is_list(value: Raw) -> bool:
    return memoryview(value)[0] == _OPENS_LIST


def _without_media(messages: bytes, images: int) -> tuple[bytes, int]:
    """Return the messages without their images, recordings and files, and how many those are.

    Odd ones stay as they are, and ``images`` is believed.
    """
    media = 0
    if messages.count(b"{") > _MOST_PARTS:
        return messages, images
    try:
        found = msgspec.json.decode(messages, type=list[dict[str, Raw]])
        for message in found:
            content = message.get("content", UNSET)
            if content is not UNSET and _is_list(content):
                parts = msgspec.json.decode(content, type=list[Raw])
                text = [part for part in parts if msgspec.json.decode(part, type=_Part).type not in _MEDIA]
                media += len(parts) - len(text)
                message["content"] = Raw(msgspec.json.encode(text))
    except (msgspec.DecodeError, RecursionError):
        return messages, images
    return msgspec.json.encode(found), media
