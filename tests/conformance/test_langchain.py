"""LangChain's standard tests for chat models, all of them, for ``ChatOpenAI`` with the default model behind it.

Everything that can be declared to be supported is. The files that the suite would load from the internet, to send
them as images, sounds and documents, are a few bytes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests, chat_models
from langchain_tests.unit_tests import ChatModelUnitTests

from flatfee.integrations.openai import AsyncOpenAI, OpenAI
from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore", "error:::flatfee")]


@pytest.fixture
def environment(gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of LangChain would set, and files in place of those on the internet."""
    monkeypatch.setenv("OPENAI_API_BASE", gateway.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", gateway.api_key)
    monkeypatch.setattr(chat_models.httpx, "get", lambda url, **_: httpx.Response(200, content=b"a small file"))


class Declared:
    """What the default model is declared to support."""

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "auto", "stream_usage": True}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_video_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "premium"


class TestUnit(Declared, ChatModelUnitTests):
    """What LangChain's class does by itself: nothing reaches a gateway."""

    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "key")

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        env = {"OPENAI_API_KEY": "key", "OPENAI_API_BASE": "http://127.0.0.1:1/v1"}
        return env, {"model": "auto"}, {"openai_api_key": "key", "openai_api_base": "http://127.0.0.1:1/v1"}


@pytest.mark.usefixtures("environment")
class TestChatOpenAI(Declared, ChatModelIntegrationTests):
    """As LangChain makes it, with clients of its own."""


class TestOurClients(Declared, ChatModelIntegrationTests):
    """As the guide makes it, with the integration's clients."""

    clients: dict[str, Any]

    @pytest.fixture(autouse=True)
    def integration(self, gateway: ScriptedGateway, environment: None) -> Iterator[None]:
        with OpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client:
            async_client = AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key)
            self.clients = {
                "client": client.chat.completions,
                "root_client": client,
                "async_client": async_client.chat.completions,
                "root_async_client": async_client,
            }
            yield

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, **self.clients}
