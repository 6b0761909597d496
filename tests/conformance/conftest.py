"""A gateway whose default model answers, for suites that others wrote for chat models.

Nothing here says what an answer must be: the suites do. What of a suite cannot pass is marked where it is run,
with the reason; a mark that is no longer needed fails. What is not installed is not collected.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from flatfee.testing import ScriptedGateway, running_gateway

HERE: Final = Path(__file__).parent
SUITES: Final = {
    "test_told.py": "outlines",
    "test_langchain.py": "langchain_tests",
    "test_litellm.py": "litellm",
    "test_outlines.py": "outlines",
}
collect_ignore = [name for name, package in SUITES.items() if find_spec(package) is None]

# Read when a framework is imported, by some: nothing here may leave this machine.
QUIET: Final = {
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
}
if len(collect_ignore) < len(SUITES):
    os.environ.update(QUIET)

OPENAI: Final = ("gpt-4o-mini-2024-07-18", "gpt-4o-search-preview", "gpt-audio", "o3-mini")
"""Models that the suites ask for; to LiteLLM their names tell what an endpoint can do."""

HEARS: Final = "run as the model that hears"
SEARCHES: Final = "run as the model that searches"
ABSENT: Final = {
    "VCR not set up.": "measures how a recording is played; nothing reaches a gateway",
    "Model does not support url context": "a tool of Gemini's API",
    "Model=gpt-4o-search-preview does not support audio input": HEARS,
    "Model does not support audio input": HEARS,
    "Model does not support web search": SEARCHES,
    "Model does not support image input": SEARCHES,
    "Model does not support response schema": SEARCHES,
    "Model=gpt-audio does not support response schema": SEARCHES,
    "Model does not support prompt caching": SEARCHES,
}
"""Why a suite may skip a test. Any other skip is a failure: LiteLLM skips where a provider is overloaded."""

KNOWN: Final[Mapping[str, str]] = {}
"""Tests that fail, and whose fault it is. One that no longer fails must leave."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "originalname", "")
        if item.path.parent == HERE and name in KNOWN:
            item.add_marker(pytest.mark.xfail(reason=KNOWN[name], strict=True))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and call.excinfo and isinstance(call.excinfo.value, pytest.skip.Exception):
        why = call.excinfo.value.msg
        if why not in ABSENT:
            report.outcome, report.longrepr = "failed", f"Skipped by the suite: {why}"
    return report


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks that the suites use."""
    config.addinivalue_line("markers", "api_call: asks a model")
    config.addinivalue_line("markers", "asyncio: a coroutine; anyio runs it")
    config.addinivalue_line("markers", "flaky: may be tried again, were this a real model")


@pytest.fixture(scope="session")
def gateway() -> Iterator[ScriptedGateway]:
    """One gateway for all tests, without a rule: the default model answers everything."""
    with running_gateway(fair_use=1_000_000_000, aliases=dict.fromkeys(OPENAI, "auto")) as gateway:
        yield gateway


@pytest.fixture(scope="session", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """All coroutines run on one loop: LangChain and LiteLLM keep asynchronous clients from test to test."""
    yield  # noqa: PT022 - the loop lives as long as this does
