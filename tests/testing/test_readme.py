"""The test that the README shows passes, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_of_the_readme_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    section = ROOT.joinpath("README.md").read_text("utf-8").partition("\n## Test your agent\n")[2].partition("\n## ")[0]
    shown = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    pytester.makepyfile(*shown)
    result = pytester.runpytest_inprocess("-p", "no:flatfee", "-p", "flatfee_pytest", "-W", "error", "--strict-markers")
    assert result.parseoutcomes() == {"passed": 1}
