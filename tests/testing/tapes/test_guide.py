"""The tape that the guide shows is one that was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.testing.tapes.upstream import LEAKED, Upstream

from flatfee.testing import running_gateway
from flatfee.testing.tapes.tape import Tape, parse

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "testing-tapes.md"


def shown() -> str:
    found = re.search(r"^```json\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def timeless(tape: Tape) -> Any:
    """Return a tape as its file has it, without what is another moment each time."""
    return re.sub(r'("(?:at|head|ended)_ms": |"recorded": )("[^"]*"|[\d.]+)', r"\1…", tape.write())


def test_the_tape_that_is_shown_is_as_it_is_recorded(
    upstream: Upstream, tapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(self: Upstream, body: dict[str, Any], said: str) -> Iterator[dict[str, Any]]:
        first, *_, last, _ = whole(self, body, said)
        first["choices"][0]["delta"]["content"] = "It is sunny."
        yield from (first, last)

    whole = Upstream.events
    monkeypatch.setattr(Upstream, "events", short)
    with running_gateway(record=tapes, config=upstream.config) as gateway, gateway.client() as client:
        messages = [{"role": "user", "content": f"My key is {LEAKED}. Weather?"}]
        list(client.chat.completions.create(model="premium", messages=messages, stream=True))
    (path,) = tapes.iterdir()
    assert parse(shown(), "the guide").write() == shown()
    assert timeless(parse(shown(), "the guide")) == timeless(parse(path.read_text("utf-8"), "recorded"))
