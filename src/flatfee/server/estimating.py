"""How many tokens a request's prompt has, before anybody has counted them. Pure: bytes in, a number out.

The estimate decides on rules, on eligibility and on what is held back; what is charged are the provider's counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_IMAGE: Final = 1000

_BESIDE_MESSAGES: Final = ("tools", "functions", "response_format")
"""Fields that the provider puts into the prompt, too."""


class _Part(msgspec.Struct):
    type: str = ""


def estimate_tokens(size: int) -> int:
    """Return about how many tokens ``size`` bytes of text are: a quarter, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def estimate_prompt(fields: Mapping[str, Raw], contents: Sequence[Raw | UnsetType], images: int) -> int:
    """Return about how many tokens a prompt has: ``fields`` of the body, the ``contents`` of its messages."""
    size = len(memoryview(fields["messages"]))
    if images:
        size -= sum(_image_size(content) for content in contents)
    for name in _BESIDE_MESSAGES:
        if name in fields:
            size += len(memoryview(fields[name]))
    return estimate_tokens(size) + TOKENS_PER_MESSAGE * len(contents) + TOKENS_PER_IMAGE * images


def count_images(content: Raw | UnsetType) -> int:
    """Count a message's image parts; each names ``image_url`` as its type and as its key."""
    if content is UNSET or bytes(memoryview(content)[:1]) != b"[":
        return 0
    return bytes(content).count(b'"image_url"') // 2


def _image_size(content: Raw | UnsetType) -> int:
    """Return the bytes that image parts take in a message: image data is no text."""
    if content is UNSET or not count_images(content):
        return 0
    try:
        parts = msgspec.json.decode(content, type=list[Raw])
        return sum(len(memoryview(part)) for part in parts if msgspec.json.decode(part, type=_Part).type == "image_url")
    except (msgspec.DecodeError, RecursionError):
        return 0
