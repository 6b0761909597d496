"""``SIGHUP`` before ``flatfee serve`` can obey it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Flatfee

from flatfee.cli import hangups, main


@pytest.fixture(autouse=True)
def _mask() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def held_back() -> bool:
    return signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(("command", "held"), [("serve", True), ("chat", False)])
def test_a_hangup_waits_from_the_first_moment_of_serve_and_ends_any_other_command(
    command: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(sys, "argv", ["flatfee", command])
    for app in ("flatfee.cli.app.app", "flatfee.cli.serving.app"):
        monkeypatch.setattr(app, lambda: seen.append(held_back()))
    main()
    assert seen == [held]


@pytest.mark.parametrize(
    ("arguments", "held"), [(["--test"], False), ([], False), (["--config", "flatfee.toml"], True)]
)
def test_without_a_file_to_read_again_it_ends_the_gateway(
    arguments: list[str], held: bool, flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None of these comes to serve: of several workers the first two are refused, and the file is none."""
    monkeypatch.chdir(tmp_path)
    hangups.hold_back()
    assert flatfee("serve", "--workers", "2", *arguments).exit_code == 2
    assert held_back() is held
