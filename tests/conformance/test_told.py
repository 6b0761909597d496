"""What the page on conformance tells is what runs."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.conformance.conftest import KNOWN

pytestmark = pytest.mark.conformance

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "conformance.md"


def test_page_tells_the_versions_that_run() -> None:
    told = dict(re.findall(r"`(langchain-tests|outlines)` ([\d.]+)", PAGE.read_text("utf-8")))
    assert told == {name: version(name) for name in ("langchain-tests", "outlines")}


def test_page_tells_of_every_test_that_is_known_to_fail() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in KNOWN if f"`{name}`" not in text] == []
