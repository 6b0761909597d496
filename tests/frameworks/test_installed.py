"""Which frameworks an environment must have: what is absent is not collected, and must not go unseen."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import pytest
from tests.frameworks.conftest import FRAMEWORKS

pytestmark = pytest.mark.frameworks

PINNED_BELOW_OPENAI_3 = {"llama_index", "litellm"}


def test_every_framework_of_this_environment_is_here() -> None:
    found = {package for package in FRAMEWORKS.values() if find_spec(package)}
    old = version("openai").startswith("2.")
    assert found == (PINNED_BELOW_OPENAI_3 if old else set(FRAMEWORKS.values()) - PINNED_BELOW_OPENAI_3)
