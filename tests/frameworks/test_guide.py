"""How the guide for pytest gives each framework its model: each row of its table is run."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.frameworks.conftest import FRAMEWORKS, WARNINGS_OF_OTHERS

from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS, pytest.mark.usefixtures("flatfee_env")]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "testing-pytest.md"
ROWS = dict(
    re.findall(r"^\| ([\w-]+) \| `(.+?)`", GUIDE.read_text("utf-8").partition("| framework |")[2], re.MULTILINE)
)
HELLO = [{"role": "user", "content": "Hello"}]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason="another environment has it")


@pytest.fixture
def flatfee_options() -> Mapping[str, Any]:
    return {"aliases": {"gpt-4o": "auto"}}  # the marker's, which is unknown where the plugin is not loaded


@pytest.fixture(autouse=True)
def says_hi(flatfee_gateway: ScriptedGateway) -> Iterator[None]:
    flatfee_gateway.script("Hi.")
    yield
    gc.collect()  # what a framework left open is told of here, where its warnings are ignored


def made(framework: str, **names: Any) -> Any:
    return eval(ROWS[framework], names)


@needs("langchain_openai")
def test_langchain() -> None:
    from langchain_openai import ChatOpenAI

    assert made("LangChain", ChatOpenAI=ChatOpenAI).invoke("Hello").content == "Hi."


@needs("pydantic_ai")
def test_pydantic_ai() -> None:
    from pydantic_ai import Agent

    assert made("pydantic-ai", Agent=Agent).run_sync("Hello").output == "Hi."


@needs("agents")
def test_openai_agents() -> None:
    from agents import Agent, OpenAIChatCompletionsModel, Runner
    from openai import AsyncOpenAI

    model = made("openai-agents", OpenAIChatCompletionsModel=OpenAIChatCompletionsModel, AsyncOpenAI=AsyncOpenAI)
    assert Runner.run_sync(Agent(name="Helper", model=model), "Hello").final_output == "Hi."


@needs("llama_index")
def test_llama_index(flatfee_gateway: ScriptedGateway) -> None:
    from llama_index.llms.openai import OpenAI

    assert str(made("LlamaIndex", OpenAI=OpenAI, flatfee_gateway=flatfee_gateway).complete("Hello")) == "Hi."


@needs("smolagents")
def test_smolagents() -> None:
    from smolagents import OpenAIModel

    assert made("smolagents", OpenAIModel=OpenAIModel).generate(HELLO).content == "Hi."


@needs("litellm")
def test_litellm() -> None:
    import litellm

    assert made("LiteLLM", litellm=litellm, messages=HELLO).choices[0].message.content == "Hi."


def test_every_framework_is_told() -> None:
    assert len(ROWS) == len(FRAMEWORKS)
