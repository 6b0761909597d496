"""``python -m tests.torture``: one table, the violations, and how to see them again."""

from __future__ import annotations

import pytest
from tests.torture import __main__ as command
from tests.torture.results import Result, Violation


def put(monkeypatch: pytest.MonkeyPatch, *violations: Violation) -> None:
    result = Result(scenario="simulation", runs=12_000, violations=violations)
    monkeypatch.setattr(command, "SCENARIOS", {"simulation": lambda: result})


def test_the_table_is_all_that_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch)
    assert command.main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "| scenario   |   runs | violations |",
        "| ---------- | -----: | ---------: |",
        "| simulation | 12,000 |          0 |",
    ]


def test_a_violation_fails_the_command_and_says_how_to_repeat_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch, Violation(text="admitted over the cap", seed=77))
    assert command.main([]) == 1
    _, err = capsys.readouterr()
    assert "seed 77: admitted over the cap" in err
    assert "python -m tests.torture --seed 77" in err


def test_a_seed_is_repeated_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--seed", "3"]) == 0
    out, _ = capsys.readouterr()
    assert "mood" in out
    assert out.splitlines()[-1] == "seed 3: 0 violations"
