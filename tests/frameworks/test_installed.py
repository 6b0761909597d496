"""Which frameworks an environment must have: what is absent is not collected, and must not go unseen."""

from __future__ import annotations

import re
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.frameworks.conftest import FRAMEWORKS

pytestmark = pytest.mark.frameworks

PINNED_BELOW_OPENAI_3 = {"llama_index", "litellm"}


def test_every_framework_of_this_environment_is_here() -> None:
    found = {package for package in FRAMEWORKS.values() if find_spec(package)}
    old = version("openai").startswith("2.")
    assert found == (PINNED_BELOW_OPENAI_3 if old else set(FRAMEWORKS.values()) - PINNED_BELOW_OPENAI_3)


def test_guide_tells_the_versions_that_are_tested() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "frameworks.md").read_text("utf-8")
    tested = re.findall(r"^\| .+?\| `([\w-]+)` ([\d.]+) \|", guide, re.MULTILINE)
    here = {name for names in packages_distributions().values() for name in names}
    old = version("openai").startswith("2.")
    told = {(name, number) for name, number in tested if name in here and not (old and name in {"openai", "httpx"})}
    assert told
    assert told == {(name, version(name)) for name, _ in told}
