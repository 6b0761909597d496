"""Names that openai-python has and a gateway does not serve: asking for one says what is there instead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

_CHAT: Final = "use chat.completions"
_PROVIDER: Final = "ask the provider itself, with its own client and key"
_RAW: Final = "use the methods for what a gateway serves; extra_body, extra_query and extra_headers go with each"
_RESPONSES: Final = "use that of a resource, such as chat.completions"

CLIENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("completions", "conversations", "live", "realtime", "responses"), _CHAT),
        **dict.fromkeys(
            (
                *("audio", "batches", "containers", "content_provenance_checks", "decisions", "embeddings", "evals"),
                *("files", "fine_tuning", "images", "moderations", "safety", "skills", "uploads", "vector_stores"),
                "videos",
            ),
            _PROVIDER,
        ),
        **dict.fromkeys(("delete", "get", "get_api_list", "patch", "post", "put", "request"), _RAW),
        **dict.fromkeys(("with_raw_response", "with_streaming_response"), _RESPONSES),
        "admin": "use the command flatfee, or the gateway's admin API",
        "webhooks": "a gateway sends none",
    }
)
CHAT: Final[Mapping[str, str]] = MappingProxyType(
    dict.fromkeys(("with_raw_response", "with_streaming_response"), _RESPONSES)
)
BETA: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("agents", "assistants", "chatkit", "realtime", "responses", "threads"), _CHAT),
        **CHAT,
    }
)
STORED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("delete", "messages", "update"), "a gateway keeps no completions"),
        "list": "a gateway keeps no completions; receipts.list() has an account of each",
        "retrieve": "a gateway keeps no completions; receipts.retrieve(request_id) has the account of one",
    }
)


class Elsewhere:
    """Says of a name in ``_elsewhere`` what is there instead. ``hasattr`` is false for them all the same."""

    _elsewhere: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # or every name would pass a type checker

        def __getattr__(self, name: str) -> object:
            kind, cure = type(self).__name__, self._elsewhere.get(name)
            if cure is None:
                raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)
            raise AttributeError(f"{kind} has no {name!r}, unlike openai-python's: {cure}.", name=name, obj=self)
