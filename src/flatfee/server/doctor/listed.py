"""What a provider's list of models tells: which there are, and how much each holds. Pure: bytes in, a value out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from flatfee.server.answers.lenient import UNREADABLE

_SIZES: Final = ("max_model_len", "context_length", "context_window", "max_context_length", "max_input_tokens")
"""Where services tell it: vLLM, SGLang; OpenRouter and Together; Groq; Mistral; Anthropic. Sources:
https://openrouter.ai/docs/api-reference/list-available-models, https://docs.together.ai/reference/models,
https://console.groq.com/docs/models, https://docs.mistral.ai/api/#tag/models,
https://platform.claude.com/docs/en/api/models/list."""

_SIZES_OF_META: Final = ("n_ctx", "n_ctx_train")
"""The same within ``meta``: llama.cpp's server; what a model was trained for, if not what it runs with."""

_MOST_TOKENS: Final = 1 << 31
_MOST_NAMES: Final = 1000
_LONGEST_NAME: Final = 100


@dataclass(frozen=True, slots=True)
class ListedModels:
    """The models that a provider lists → how many tokens each holds, where it tells."""

    sizes: Mapping[str, int | None]

    def size_of(self, *names: str | None) -> int | None:
        """Return how many tokens a model holds, by the first of its names under which that is told."""
        return next((size for name in names if name is not None and (size := self.sizes.get(name))), None)

    def near(self, model: str) -> list[str]:
        """Return the names that are most like one, at most three, and none that is not fit to be shown."""
        names = [name for name in self.sizes if name.isprintable() and len(name) <= _LONGEST_NAME]
        return get_close_matches(model, names[:_MOST_NAMES], cutoff=0.4)


def read_list(data: bytes) -> ListedModels | None:
    """Read a list of models, OpenAI's or Together's, which has nothing around it; ``None`` if it is none."""
    try:
        told = msgspec.json.decode(data)
    except UNREADABLE:
        return None
    models = told.get("data") if isinstance(told, dict) else told
    if not isinstance(models, list):
        return None
    known = [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]
    return ListedModels({model["id"]: _size(model) for model in known})


def _size(model: dict[str, Any]) -> int | None:
    meta = model.get("meta")
    told = [model.get(name) for name in _SIZES]
    told += [meta.get(name) for name in _SIZES_OF_META] if isinstance(meta, dict) else []
    sizes = (size for size in told if isinstance(size, int) and not isinstance(size, bool) and 0 < size < _MOST_TOKENS)
    return next(sizes, None)
