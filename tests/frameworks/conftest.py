"""The gateway of the pytest plugin, scripted so that a model uses the tools it is offered.

The frameworks live in two environments of their own (``make test-frameworks``): the newest ones that share
openai-python 3, and all six with openai-python 2. What is not installed
is not collected; ``test_installed.py`` says what must be.
"""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from flatfee.testing import Fault, Reply, ScriptedGateway, Tokens, call, matches

ROOT: Final = Path(__file__).parents[2]
FRAMEWORKS: Final = {
    "test_langchain.py": "langchain_openai",
    "test_llamaindex.py": "llama_index",
    "test_smolagents.py": "smolagents",
    "test_litellm.py": "litellm",
    "test_pydantic_ai.py": "pydantic_ai",
    "test_openai_agents.py": "agents",
}
collect_ignore = [name for name, package in FRAMEWORKS.items() if find_spec(package) is None]

# Read when a framework is imported, by some: nothing here may leave this machine.
QUIET: Final = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
if len(collect_ignore) < len(FRAMEWORKS):
    os.environ.update(QUIET)
else:  # the environment of the other tests
    collect_ignore.append("test_installed.py")

WARNINGS_OF_OTHERS: Final = pytest.mark.filterwarnings("ignore", "error:::flatfee")
"""A framework's own warnings are not ours to cure; ours are errors here as well."""

ROUTES: Final = {"premium-a", "premium-b", "economy-a", "economy-b"}
"""Those of a gateway that nobody has told otherwise."""

USED: Final = Tokens(input=12, output=5)
"""What every answer uses: 32 units on a premium route."""


def said(text: str) -> Reply:
    """Return an answer of text."""
    return Reply(text=text, usage=USED)


def called(tool: str, **arguments: str) -> Reply:
    """Return a call of a tool."""
    return Reply(tool_calls=(call(tool, **arguments),), usage=USED)


def fail(gateway: ScriptedGateway) -> None:
    """Let every route fail from now on, with words that a framework may take for a limit of its own."""
    gateway.script(Fault.status(429, message="429: rate limit reached, too many requests"), first=True)


def requests(gateway: ScriptedGateway) -> int:
    """Return how many requests for a completion arrived."""
    return len(gateway.journal.completions)


@pytest.fixture
def gateway(flatfee_gateway: ScriptedGateway, flatfee_env: None) -> ScriptedGateway:
    """A gateway whose model calls the tool that it is offered, and then tells its result. It is in the environment."""
    gateway = flatfee_gateway
    told = "The tool says: 21 degrees in Lisbon"
    # smolagents tells a tool's result as the user would, and takes an answer only as the call of a tool.
    gateway.script(called("final_answer", answer=told), user=matches("(?s).*Observation:.*21 degrees in Lisbon"))
    gateway.script(said(told), tool_result="21 degrees in Lisbon")
    gateway.script(called("weather", city="Lisbon"), tool="weather")
    gateway.script(called("City", city="Lisbon"), tool="City")
    gateway.script(Reply(json={"city": "Lisbon"}, usage=USED), schema="City")
    gateway.script(said("Red, green and blue."))
    return gateway


@pytest.fixture
def run_example(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Return the function that runs an example as a program, and returns what it printed."""
    del gateway  # its address is in the environment
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "LANGCHAIN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> str:
        runpy.run_path(str(ROOT / "examples" / "frameworks" / name), run_name="__main__")
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)

    return run
