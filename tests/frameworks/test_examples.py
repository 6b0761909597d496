"""What every example of a framework prints, by the way the gateway is."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

import pytest
from tests.frameworks.conftest import WARNINGS_OF_OTHERS, fail, requests

from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.frameworks, WARNINGS_OF_OTHERS]

EXAMPLES: Final = {
    "langchain_chat.py": "langchain_openai",
    "litellm_sdk.py": "litellm",
    "llamaindex_chat.py": "llama_index",
    "openai_agents.py": "agents",
    "pydantic_ai_agent.py": "pydantic_ai",
    "smolagents_agent.py": "smolagents",
}
"""Example → the package that it needs. ``test_installed`` tells which packages an environment must have."""

ANSWERED: Final = (
    r"^plain: Red, green and blue\.$",
    r"^(?:Served on|Routed to) the premium lane by premium-model-a via premium-a",
    r"^streamed: .*Red, green and blue\.",
    r"^(?:tool|agent): The tool says: 21 degrees in Lisbon$",
    r"^4 requests in .*, 128 units charged, 99,872 left of fair-use$",
)
STEPS: Final = (r"^step 1 on the lane premium$", r"^step 2 on the lane premium$")
"""What smolagents' example tells beside."""
EXHAUSTED: Final = (
    r"^FallbackExhausted: tried premium-a \(rate_limited\).*economy-b \(rate_limited\)$",
    r"^1 request in .*, 1 refused",
)

every_example = pytest.mark.parametrize("example", [name for name, package in EXAMPLES.items() if find_spec(package)])


def missing(shown: str, patterns: tuple[str, ...]) -> list[str]:
    """Return the patterns that nothing in ``shown`` fits."""
    return [pattern for pattern in patterns if not re.search(pattern, shown, re.MULTILINE)]


@every_example
def test_example_shows_answers_and_receipts(run_example: Callable[[str], str], example: str) -> None:
    shown = run_example(example)
    told = (*ANSWERED, *(STEPS if example == "smolagents_agent.py" else ()))
    assert missing(shown, told) == [], shown


@every_example
def test_example_tells_what_was_tried_when_every_route_fails(
    gateway: ScriptedGateway, run_example: Callable[[str], str], example: str
) -> None:
    fail(gateway)
    shown = run_example(example)
    assert missing(shown, EXHAUSTED) == [], shown
    assert requests(gateway) == 1
