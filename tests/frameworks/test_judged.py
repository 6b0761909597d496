"""How frameworks are judged, left to their defaults: the table of the guide, measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest
from openai import _base_client
from tests.frameworks.conftest import WARNINGS_OF_OTHERS

import flatfee
from flatfee.testing import Edge, ScriptedGateway, running_gateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

GUIDE: Final = Path(__file__).parents[2] / "docs" / "guides" / "testing-verdicts.md"
HELLO: Final[list[Any]] = [{"role": "user", "content": "Hello"}]
PATIENT: Final = openai.Timeout(60)
HASTY: Final = openai.Timeout(60, read=0.05)
"""Of the client that meets a silent gateway: only reading is short of time, so that each of its requests comes."""

SITUATIONS: Final[Mapping[str, tuple[Edge, int | None]]] = {
    "fair-use is spent": (Edge.error("fair_use_exhausted"), None),
    "every route failed": (Edge.error("fallback_exhausted"), None),
    "busy": (Edge.error("rate_limited", retry_after=30), None),
    "silent": (Edge.stall(), None),
    "cut midway": (Edge.cut(after=3), 1),
}
"""What happens → how, and how often; later requests are answered."""


Ask = Callable[[ScriptedGateway, bool, openai.Timeout], None]
"""Asks once: plain or streamed, with so much time for an answer."""


def ours(gateway: ScriptedGateway, timeout: openai.Timeout) -> flatfee.Client:
    return gateway.client(timeout=flatfee.Timeout(60.0, read=timeout.read))


def of_openai(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    with openai.OpenAI(timeout=timeout) as client:
        answer = client.chat.completions.create(model="premium", messages=HELLO, stream=stream)
        _ = list(answer) if stream else answer


def of_flatfee(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    answer: Any = ours(gateway, timeout).chat.completions.create(model="premium", messages=HELLO, stream=stream)
    _ = list(answer) if stream else answer


def of_langchain(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout, **retry: Any) -> None:
    from langchain_openai import ChatOpenAI

    model: Any = ChatOpenAI(model="premium", timeout=timeout)
    model = model.with_retry(**retry) if retry else model
    _ = list(model.stream("Hello")) if stream else model.invoke("Hello")


def of_langchain_with_retry(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    of_langchain(gateway, stream, timeout, stop_after_attempt=3)


def of_llamaindex(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout, **client: Any) -> None:
    from llama_index.core.llms import ChatMessage, LLMMetadata
    from llama_index.llms.openai import OpenAI

    class Model(OpenAI):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name=self.model, context_window=128_000, is_chat_model=True)

    given = client or {
        "http_client": httpx.Client(timeout=httpx.Timeout(60, read=timeout.read)),
        "timeout": timeout.read,
    }
    model = Model(model="premium", api_base=gateway.base_url, **given)
    messages = [ChatMessage("Hello")]
    _ = list(model.stream_chat(messages)) if stream else model.chat(messages)


def of_llamaindex_with_flatfee(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    of_llamaindex(gateway, stream, timeout, openai_client=ours(gateway, timeout))


def of_smolagents(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout, **client: Any) -> None:
    from smolagents import OpenAIModel

    model = OpenAIModel("premium", **(client or {"client_kwargs": {"timeout": timeout}}))
    _ = list(model.generate_stream(HELLO)) if stream else model.generate(HELLO)


def of_smolagents_with_flatfee(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    of_smolagents(gateway, stream, timeout, client=ours(gateway, timeout), retry=False)


def of_litellm(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout, **options: Any) -> None:
    import litellm

    litellm.suppress_debug_info = True
    told = {"model": "openai/premium", "api_base": gateway.base_url, "messages": HELLO, "timeout": timeout}
    answer: Any = litellm.completion(stream=stream, **told, **options)
    _ = list(answer) if stream else answer


def of_litellm_with_retries(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    of_litellm(gateway, stream, timeout, num_retries=3)


def of_pydantic_ai(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def ask(client: openai.AsyncOpenAI) -> None:
        agent = Agent(OpenAIChatModel("premium", provider=OpenAIProvider(openai_client=client)))
        if not stream:
            await agent.run("Hello")
            return
        async with agent.run_stream("Hello") as streamed:
            _ = [text async for text in streamed.stream_text()]

    asyncio.run(with_client(ask, openai.AsyncOpenAI(timeout=timeout)))


def of_openai_agents(gateway: ScriptedGateway, stream: bool, timeout: openai.Timeout) -> None:
    from agents import Agent, OpenAIChatCompletionsModel, Runner

    async def ask(client: openai.AsyncOpenAI) -> None:
        model = OpenAIChatCompletionsModel(model="premium", openai_client=client)
        agent = Agent(name="Helper", model=model)
        if stream:
            _ = [event async for event in Runner.run_streamed(agent, "Hello").stream_events()]
        else:
            await Runner.run(agent, "Hello")

    asyncio.run(with_client(ask, openai.AsyncOpenAI(timeout=timeout)))


async def with_client(ask: Callable[[openai.AsyncOpenAI], Awaitable[None]], client: openai.AsyncOpenAI) -> None:
    async with client:
        await ask(client)


CLIENTS: Final[Mapping[str, tuple[str, Ask]]] = {
    "openai-python": ("openai", of_openai),
    "flatfee": ("flatfee", of_flatfee),
    "LangChain": ("langchain_openai", of_langchain),
    "LangChain, `with_retry()`": ("langchain_openai", of_langchain_with_retry),
    "LlamaIndex": ("llama_index", of_llamaindex),
    "LlamaIndex over `flatfee.Client`": ("llama_index", of_llamaindex_with_flatfee),
    "smolagents": ("smolagents", of_smolagents),
    "smolagents over `flatfee.Client`, `retry=False`": ("smolagents", of_smolagents_with_flatfee),
    "LiteLLM": ("litellm", of_litellm),
    "LiteLLM, `num_retries=3`": ("litellm", of_litellm_with_retries),
    "pydantic-ai": ("pydantic_ai", of_pydantic_ai),
    "openai-agents": ("agents", of_openai_agents),
}
"""The guide's name of a client → the package that it needs, and how it asks once."""


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedGateway]:
    with running_gateway(concurrent_workflows=100) as gateway:
        yield gateway


@pytest.fixture
def gateway(running: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> ScriptedGateway:
    """A gateway in whose time everybody waits before another try."""
    for name, value in running.env.items():
        monkeypatch.setenv(name, value)

    def wait(client: Any, *, retries_taken: int, max_retries: int, options: Any, response: Any) -> float:
        left = max_retries - retries_taken
        seconds: float = client._calculate_retry_timeout(left, options, response.headers if response else None)
        return seconds

    async def asleep(client: Any, **told: Any) -> None:
        await running.asleep(wait(client, **told))

    monkeypatch.setattr(_base_client.AsyncAPIClient, "_sleep_for_retry", asleep)
    monkeypatch.setattr(time, "sleep", running.sleep)
    return running


def judged(gateway: ScriptedGateway, situation: str, ask: Ask) -> str:
    """Return how many requests a client sent, plain and streamed, and which rules it broke."""
    sent: list[int] = []
    broken: list[str] = []
    edge, times = SITUATIONS[situation]
    for stream in (False, True):
        gateway.reset()
        gateway.script(edge, times=times)
        with suppress(Exception):  # what a framework makes of it is not asked here
            ask(gateway, stream, HASTY if situation == "silent" else PATIENT)
        sent.append(len(gateway.journal.completions))
        broken += gateway.verdict().rules
    counts = str(sent[0]) if sent[0] == sent[1] else f"{sent[0]}, streamed {sent[1]}"
    return ", ".join([counts, *(f"`{rule}`" for rule in dict.fromkeys(broken))])


every_client = pytest.mark.parametrize("name", [name for name, (package, _) in CLIENTS.items() if find_spec(package)])


@every_client
def test_guide_tells_how_a_framework_is_judged(gateway: ScriptedGateway, name: str) -> None:
    cells = [judged(gateway, situation, CLIENTS[name][1]) for situation in SITUATIONS]
    assert f"| {' | '.join([name, *cells])} |" in GUIDE.read_text("utf-8").splitlines()


@every_client
def test_only_our_client_sends_a_cut_request_again_with_its_key(gateway: ScriptedGateway, name: str) -> None:
    gateway.reset()
    gateway.script(Edge.cut(after=3), times=1)
    CLIENTS[name][1](gateway, False, PATIENT)
    assert gateway.verdict(must_key=True).rules == (() if "flatfee" in name else ("idempotency",))
