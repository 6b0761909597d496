"""LiteLLM's tests for every provider, all of them, with the default model as an OpenAI endpoint.

They are in its repository and in no package: ``LITELLM_CHECKOUT`` names a checkout; without one they are skipped.
The names of OpenAI's models make LiteLLM ask for everything that those can do.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore", "error:::flatfee")]

PLACE = "tests/llm_translation/base_llm_unit_tests.py"


def suite() -> Any:
    """Load LiteLLM's tests."""
    checkout = os.environ.get("LITELLM_CHECKOUT")
    if not checkout:
        pytest.skip("LITELLM_CHECKOUT names no checkout of LiteLLM", allow_module_level=True)
    spec = importlib.util.spec_from_file_location("base_llm_unit_tests", Path(checkout) / PLACE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SUITE: Any = suite()
Base: Any = SUITE.BaseLLMChatTest


@pytest.fixture(autouse=True)
def environment(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of LiteLLM would set, and files in place of those on the internet."""

    async def fetched(url: str) -> str:
        return "data:application/pdf;base64,YSBzbWFsbCBmaWxl"

    def get(url: str) -> httpx.Response:
        return httpx.Response(200, content=b"a small file", request=httpx.Request("GET", url))

    monkeypatch.setenv("OPENAI_BASE_URL", gateway.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", gateway.api_key)
    monkeypatch.setattr(SUITE.httpx, "get", get)
    monkeypatch.setattr("litellm.llms.openai.chat.gpt_transformation.async_convert_url_to_base64", fetched)


class TestSearching(Base):
    """As the model that LiteLLM knows to do most."""

    model = "gpt-4o-search-preview"

    def get_base_completion_call_args(self) -> dict[str, Any]:
        return {"model": self.model}

    def get_base_completion_call_args_with_reasoning_model(self) -> dict[str, Any]:
        return {"model": "o3-mini"}

    def test_tool_call_no_arguments(self, tool_call_no_arguments: dict[str, Any]) -> None:
        """Each provider writes this one: a call without arguments is part of a conversation."""
        answer = {"role": "tool", "tool_call_id": tool_call_no_arguments["tool_calls"][0]["id"], "content": "none"}
        messages = [{"role": "user", "content": "Hello"}, tool_call_no_arguments, answer]
        response = self.completion_function(**self.get_base_completion_call_args(), messages=messages)
        assert response.choices[0].message.content


class TestHearing(TestSearching):
    """As a model that hears, too."""

    model = "gpt-audio"
