"""Usage: the usual way to tell it is read sooner, and to the same figures."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from flatfee.server.answers.members import MAX_TOKENS, any_usage, told_usage

FIGURES = [0, 1, 2, 3, 5, MAX_TOKENS, MAX_TOKENS + 1, -1, 2.0, 2.5]
COUNTS: st.SearchStrategy[Any] = st.sampled_from([*FIGURES, None, "3", [], {}])
DETAILS = st.one_of(COUNTS, st.fixed_dictionaries({}, optional={"cached_tokens": COUNTS, "reasoning_tokens": COUNTS}))
USAGES = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "total_tokens": COUNTS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "prompt_cache_hit_tokens": COUNTS,
        "cached_tokens": COUNTS,
    },
)


@st.composite
def usual(draw: st.DrawFn) -> dict[str, Any]:
    """Usage whose total is that of its parts, or one more."""
    prompt, output, beside = draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 1))
    told = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output + beside}
    return {**draw(USAGES), **told}


FIVE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@example({**FIVE, "prompt_cache_hit_tokens": 2})
@example({**FIVE, "cached_tokens": 2})
@given(st.one_of(usual(), USAGES, COUNTS))
def test_usage_told_the_usual_way_comes_to_what_any_other_way_would(usage: Any) -> None:
    raw = Raw(json.dumps(usage).encode())
    assert told_usage(raw) == any_usage(raw)


@pytest.mark.parametrize("member", ["more", "total_tokens", "prompt_tokens_details", "cached_tokens"])
def test_usage_too_deep_to_be_read_is_none_that_was_told(member: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    assert told_usage(Raw(f'{{"prompt_tokens": 1, "completion_tokens": 1, "{member}": {deep}}}'.encode())) is None
