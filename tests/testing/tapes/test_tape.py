"""Files that people edit: what is wrong with one is told by file, key and cure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flatfee.testing.tapes import Tape, TapeError, Tapes
from flatfee.testing.tapes.folder import MAX_TAPES, prepare, read_all, rewrite, write_new
from flatfee.testing.tapes.spelling import pretty
from flatfee.testing.tapes.tape import parse

GOOD: dict[str, Any] = {
    "format": 1,
    "recorded": "2026-11-25",
    "route": "Up.One",
    "tier": "premium",
    "model": "m",
    "stream": True,
    "request": {"messages": [{"role": "user", "content": "What's the weather like in Lisbon, and why?"}]},
    "answer": {"status": 200, "events": [{"at_ms": 1, "data": "[DONE]"}], "ended_ms": 2},
}


def tape() -> Tape:
    return parse(json.dumps(GOOD), "here")


def edited(change: Callable[[dict[str, Any]], Any]) -> str:
    value = json.loads(json.dumps(GOOD))
    change(value)
    return json.dumps(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "here is not JSON"),
        ('{"format": 1, "recorded": "\\ud83d"}', "here is not JSON"),
        ("[]", "here: format is None, and this flatfee reads 1"),
        (edited(lambda tape: tape.update(format=2)), "here: format is 2, and this flatfee reads 1. Record it again."),
        (edited(lambda tape: tape.pop("route")), "here: route is missing"),
        (edited(lambda tape: tape.update(rout="x")), "here: rout is not known; did you mean 'route'?"),
        (edited(lambda tape: tape["answer"].update(foo="x")), "here: answer.foo is not known; use one of status, "),
        (edited(lambda tape: tape["answer"]["events"][0].update(at=1)), "here: answer.events[0].at is not known; did"),
        (
            edited(lambda tape: tape["answer"]["events"][0].update(at_ms=-1)),
            "here: answer.events[0].at_ms: Input should",
        ),
        (
            edited(lambda tape: tape["answer"]["events"][0].pop("data")),
            "here: answer.events[0]: has nothing to say; give",
        ),
        (edited(lambda tape: tape["answer"].update(body={})), "here: answer: has body and events; give one of"),
        (edited(lambda tape: tape["answer"].pop("status")), "here: answer: has neither status nor failure"),
        (edited(lambda tape: tape.update(tier="gold")), "here: tier: Input should be 'premium' or 'economy'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(text: str, told: str) -> None:
    with pytest.raises(TapeError) as caught:
        parse(text, "here")
    assert str(caught.value).startswith(told)


def test_every_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    prepare(tmp_path)
    write_new(tmp_path, tape())
    (tmp_path / "0002-broken.json").write_text("{")
    (tmp_path / "0003-binary.json").write_bytes(b"\xff")
    with pytest.raises(TapeError) as caught:
        Tapes.load(tmp_path)
    assert "0002-broken.json is not JSON" in str(caught.value)
    assert "0003-binary.json cannot be read" in str(caught.value)


def test_a_folder_without_tapes_is_an_error_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="holds 0 tapes"):
        Tapes.load(tmp_path)
    with pytest.raises(TapeError, match="There is no folder"):
        Tapes.load(tmp_path / "none")


def test_a_file_is_as_it_was_read(tmp_path: Path) -> None:
    path = write_new(prepare(tmp_path / "new"), tape())
    assert json.loads(path.read_text("utf-8")) == GOOD
    assert read_all(path.parent)[0].tape == tape()


def test_names_tell_what_is_in_a_file_and_no_file_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "0002-somebody-elses.json").write_text("{}")
    names = [write_new(tmp_path, tape()).name for _ in range(2)]
    assert names == ["0001-up.one-what-s-the-weather-like-in.json", "0003-up.one-what-s-the-weather-like-in.json"]
    assert sorted(path.name for path in tmp_path.iterdir())[1] == "0002-somebody-elses.json"


def test_tapes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10_000, 9999, 2):
        (tmp_path / f"{number:04}-x.json").write_text(json.dumps(GOOD))
    assert [filed.name for filed in read_all(tmp_path)] == ["0002-x.json", "9999-x.json", "10000-x.json"]


def test_no_half_of_a_file_is_left(tmp_path: Path) -> None:
    broken = tape().model_copy(update={"request": {"messages": [object()]}})
    path = write_new(tmp_path, tape())
    for write in (lambda: write_new(tmp_path, broken), lambda: rewrite(path, broken)):
        with pytest.raises(Exception, match="serialize"):
            write()
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TapeError, match="cannot be written to"):
        prepare(tmp_path / "file")


def test_a_folder_has_a_limit(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="record into another folder"):
        write_new(tmp_path, tape(), after=MAX_TAPES)


@pytest.mark.parametrize(
    "value", [{}, [], {"a": []}, {"a": {"b": [1, {"c": "x" * 200}]}, "events": [{"d": 1}]}, "x", 1]
)
def test_json_for_people_is_json(value: Any) -> None:
    assert json.loads(pretty(value, lines=frozenset({"events"}))) == value


def test_lines_are_short_where_they_can_be() -> None:
    value = {"list": [{"number": number, "text": "word " * 8} for number in range(3)], "short": {"a": {"b": [1, 2]}}}
    text = pretty(value)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert '\n  "short": {"a": {"b": [1, 2]}}\n' in text


@pytest.mark.parametrize(("options", "told"), [({"speed": 0}, "speed=0"), ({"routes": "name"}, "routes='name'")])
def test_options_of_a_replay_are_checked(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Tapes.load(tmp_path, **options)
