"""Outlines' tests of OpenAI's models, all of them, with the default model behind OpenAI's clients.

They are in the source distribution of the version that is installed; ``make test-conformance`` unpacks it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatfee.testing import ScriptedGateway

pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore", "error:::flatfee")]

SUITE = Path(sys.prefix) / "outlines" / "tests" / "models" / "test_openai.py"


@pytest.fixture(scope="session", autouse=True)
def environment(gateway: ScriptedGateway) -> Iterator[None]:
    """What a user of outlines would set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", gateway.base_url)
        patch.setenv("OPENAI_API_KEY", gateway.api_key)
        yield


def suite() -> dict[str, Any]:
    """Return the tests and fixtures of the suite."""
    spec = importlib.util.spec_from_file_location("outlines_test_openai", SUITE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


globals().update(suite())
