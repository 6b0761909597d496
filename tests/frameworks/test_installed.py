"""Which frameworks an environment must have: what is absent is not collected, and must not go unseen."""

from __future__ import annotations

import re
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.frameworks.conftest import FRAMEWORKS

pytestmark = pytest.mark.frameworks

ONLY_BELOW_OPENAI_3 = {"llama_index", "litellm"}
OLD = version("openai").startswith("2.")


def test_every_framework_of_this_environment_is_here() -> None:
    found = {package for package in FRAMEWORKS.values() if find_spec(package)}
    assert found == set(FRAMEWORKS.values()) - (set() if OLD else ONLY_BELOW_OPENAI_3)


def test_guide_tells_the_versions_that_are_tested() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "frameworks.md").read_text("utf-8")
    tested = dict(re.findall(r"^\| .+?\| `([\w-]+)` ([\d.]+) \|", guide, re.MULTILINE))
    if OLD:
        tested |= dict(
            re.findall(r"`([\w-]+)` (\d[\d.]*\d)", guide.partition("openai-python 2:")[2].partition("\n\n")[0])
        )
    here = {name for names in packages_distributions().values() for name in names}
    told = {name: number for name, number in tested.items() if name in here}
    assert told
    assert told == {name: version(name) for name in told}
