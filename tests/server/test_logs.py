"""The gateway's log: one line for each event, with its facts."""

from __future__ import annotations

import io
import logging

import pytest

from flatfee.server.logs import EventFormatter, configure_logging


def line(**facts: object) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EventFormatter())
    record = logging.makeLogRecord({"name": "flatfee.server", "levelname": "INFO", "msg": "relay.left_route", **facts})
    handler.emit(record)
    return stream.getvalue()


def test_facts_stand_behind_the_event() -> None:
    assert line(route="north", status=503).endswith("INFO flatfee.server relay.left_route route=north status=503\n")


@pytest.mark.parametrize("forged", ["x\n2026 INFO fine", "a b", "a=b", ""])
def test_a_value_cannot_forge_a_line_or_a_fact(forged: str) -> None:
    assert line(route=forged).endswith(f"route={forged!r}\n")
    assert line(route=forged).count("\n") == 1


def test_an_event_without_facts_is_only_its_name() -> None:
    assert line().endswith("relay.left_route\n")


def test_a_workers_lines_name_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda level, handlers: given.extend(handlers))
    configure_logging(worker=1)
    assert isinstance(given[0], logging.StreamHandler)
    given[0].setStream(stream := io.StringIO())
    for facts in ({}, {"worker": 0}):
        given[0].handle(logging.makeLogRecord({"name": "flatfee.server", "levelname": "INFO", "msg": "event", **facts}))
    assert [line.split(" event ")[1] for line in stream.getvalue().splitlines()] == ["worker=1", "worker=0"]
