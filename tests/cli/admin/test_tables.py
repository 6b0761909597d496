"""How answers look: whole lines in a pipe, and nothing in them that could steer a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from flatfee.cli.admin.tables import show_done, show_list, show_one

PAGE: dict[str, Any] = {
    "object": "list",
    "data": [
        {"name": "a", "at": "2026-11-25T12:00:00Z", "inner": {"x": 1234}, "yes": True},
        {"name": "b" * 200, "at": None, "inner": {}, "yes": False},
    ],
    "has_more": True,
}
COLUMNS = {"name": "name", "at": "at", "x": "inner.x", "flag": "yes"}


def test_in_a_pipe_each_row_is_one_line_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(PAGE, COLUMNS, as_json=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["name", "at", "x", "flag"],
        ["a", "2026-11-25", "12:00:00", "UTC", "1,234", "yes"],
        ["b" * 200, "-", "-", "no"],
    ]


def test_a_list_that_goes_on_says_how_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(PAGE, COLUMNS, as_json=False, more="There are more: --after b")
    assert capsys.readouterr().err == "There are more: --after b\n"
    show_list({**PAGE, "has_more": False}, COLUMNS, as_json=False, more="There are more: --after b")
    assert capsys.readouterr().err == ""


def test_a_resource_is_shown_member_by_member(capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "object": "thing",
        "name": "a",
        "none": None,
        "window": {"start": "2026-11-25T12:00:00+02:00"},
        "l": ["x", 1],
    }
    show_one(told, as_json=False)
    rows = [line.strip().split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert rows == [["name", "a"], ["window.start", "2026-11-25 10:00:00 UTC"], ["l", "x; 1"]]


def test_a_time_that_is_none_is_shown_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"created_at": "yesterday"}, as_json=False)
    assert capsys.readouterr().out.split() == ["created_at", "yesterday"]


def test_no_answer_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07[red]x[/red]\nsecond"
    show_list({"data": [{"name": evil}], "has_more": False}, {"name": "name"}, as_json=False)
    show_one({"name": evil, evil: {"at": evil}}, as_json=False)
    show_done({}, evil, as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.count("[red]x[/red] second") == 5


def test_on_a_narrow_terminal_what_people_copy_stays_in_one_piece(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "30")
    entry = {"id": "key_exKDiQZ8iLHYrX4z", "details": {"plan": "standard", "project": None, "billing": "active"}}
    show_list({"data": [entry], "has_more": False}, {"id": "id", "details": "details"}, as_json=False)
    assert "key_exKDiQZ8iLHYrX4z" in capsys.readouterr().out
