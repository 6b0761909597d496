"""Parts of a message's content as blocks: texts, images, files. Pure.

https://platform.claude.com/docs/en/api/messages, https://platform.claude.com/docs/en/build-with-claude/vision and
…/pdf-support. A text without a visible character is refused there, so it is left out here.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from typing import Any, Final

from flatfee.server.providers.anthropic.chat import ChatMessage, File, Json, Part
from flatfee.server.providers.anthropic.errors import Untranslatable

IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_MISNAMED: Final = {"image/jpg": "image/jpeg"}


def blocks_of(message: ChatMessage, where: str) -> list[Json]:
    """Return the blocks of a message's content; ``where`` names the message.

    Raises:
        Untranslatable: a part has no equivalent.
    """
    if message.content is None or isinstance(message.content, str):
        return _texts(message.content or message.refusal or "")
    parts = [(f"{where}.content[{number}]", part) for number, part in enumerate(message.content)]
    return [block for place, part in parts for block in _of_part(part, place)]


def _texts(text: str) -> list[Json]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _of_part(part: Part, where: str) -> list[Json]:
    if part.type in {"text", "refusal"}:
        blocks = _texts(part.text or part.refusal or "")
    elif part.type == "image_url" and part.image_url is not None:
        url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
        blocks = [{"type": "image", "source": _image(url, where)}]
    elif part.type == "file" and part.file is not None:
        blocks = [_document(part.file, where)]
    else:
        raise Untranslatable(
            f"{where} is {part.type!r}, which Anthropic's API does not take; send text, image_url or file.", where
        )
    return [{**block, "cache_control": part.cache_control} for block in blocks] if part.cache_control else blocks


def _image(url: str, where: str) -> Json:
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    media_type, data = _inline(url, where, "image_url")
    media_type = _MISNAMED.get(media_type, media_type)
    if media_type not in IMAGES:
        known = ", ".join(sorted(IMAGES))
        raise Untranslatable(f"{where} is an image of type {media_type[:40]!r}; Anthropic's API takes {known}.", where)
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(file: File, where: str) -> Json:
    if file.file_data is None:
        raise Untranslatable(f"{where} names a file by its id; send its content as file_data.", where)
    media_type, data = _inline(file.file_data, where, "file_data")
    source: dict[str, Any]
    if media_type == "application/pdf":
        source = {"type": "base64", "media_type": media_type, "data": data}
    elif media_type == "text/plain":
        source = {"type": "text", "media_type": media_type, "data": _text(data, where)}
    else:
        raise Untranslatable(
            f"{where} is a file of type {media_type[:40]!r}; Anthropic's API takes application/pdf and text/plain.",
            where,
        )
    return {"type": "document", "source": source, **({"title": file.filename} if file.filename else {})}


def _text(data: str, where: str) -> str:
    try:
        return b64decode(data, validate=True).decode()
    except (NotBase64, ValueError) as error:
        raise Untranslatable(f"{where} is not UTF-8 text in base64.", where) from error


def _inline(url: str, where: str, field: str) -> tuple[str, str]:
    """Return type and base64 of a ``data:`` URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    scheme, _, described = head.partition(":")
    media_type, *parameters = described.split(";")
    if scheme.lower() != "data" or not comma or "base64" not in parameters:
        raise Untranslatable(
            f"{where} has a {field} that cannot be read; send data:TYPE;base64,… or, for images, an https URL.", where
        )
    return media_type.lower(), data
