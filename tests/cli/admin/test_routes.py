"""``flatfee routes``: what an operator sees of the routes of a gateway that runs, and what is said where none does."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from tests.cli.admin.conftest import SECRET, ask

from flatfee.cli.admin import reach, tables
from flatfee.cli.admin import routes as command
from flatfee.cli.admin.client import Admin
from flatfee.cli.demo.gateway import DemoGateway
from flatfee.cli.show import one_line

if TYPE_CHECKING:
    from tests.cli.admin.conftest import Operator
    from tests.cli.conftest import Flatfee

ENV = {"FLATFEE_ADMIN_KEY": SECRET}


def tried(outcome: str, at: str, **more: Any) -> dict[str, Any]:
    return {"at": at, "outcome": outcome, "status": None, "duration_ms": None, "first_token_ms": None} | more


TIMEOUT = tried("timeout", "2026-11-01T12:01:00Z", duration_ms=10_000)
ANSWERED = tried("ok", "2026-11-01T12:00:00Z", status=200, duration_ms=1234, first_token_ms=30)
SICK = {
    "circuit": "half_open",
    "failures_in_a_row": 3,
    "opens_in": 0.0,
    "probing": True,
    "outcomes": {"ok": 90, "timeout": 4, "error": 3, "refused": 2, "cancelled": 1},
    "recent": [TIMEOUT, ANSWERED],
    "duration_ms": {"p50": 1234, "p90": 5678},
    "first_token_ms": {"p50": 30, "p90": 90},
    "last_success": ANSWERED,
    "last_failure": TIMEOUT,
}
WELL = SICK | {"circuit": "open", "opens_in": 7.6, "probing": False, "recent": [], "last_failure": None}
ROUTE = {"object": "route", "name": "big", "provider": "p", "model": "m", "tier": "premium", "priority": 1}


def page(*workers: dict[str, Any] | None) -> dict[str, Any]:
    told = [{"worker": n, "answered": health is not None, "health": health} for n, health in enumerate(workers)]
    return {"object": "list", "data": [{**ROUTE, "workers": told}], "has_more": False}


def shown(told: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    command._show_table(told, as_json=False)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_row_tells_the_circuit_the_last_tries_and_the_last_failure(capsys: pytest.CaptureFixture[str]) -> None:
    heading, row = shown(page(SICK), capsys)
    assert "worker" not in heading
    assert row[:7] == ["big", "premium", "probing", "90/7", "1234/5678", "30/90", "timeout"]
    assert row[-1] == "ago"


def test_several_workers_have_a_row_each_and_a_silent_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    heading, *rows = shown(page(WELL, None), capsys)
    assert "worker" in heading
    assert rows[0][:6] == ["big", "premium", "0", "open,", "8", "s"]
    assert rows[1][:5] == ["big", "premium", "1", "no", "answer"]


@pytest.mark.parametrize("workers", [[SICK], [SICK, WELL, None]], ids=["one", "three"])
def test_on_a_narrow_terminal_nothing_is_broken_in_mid_word(
    workers: list[dict[str, Any] | None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_console", lambda: Console(width=80, force_terminal=True, color_system=None))
    monkeypatch.setitem(ROUTE, "name", "openai-premium")
    command._show_table(page(*workers), as_json=False)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    words = {"openai-premium", "premium", "probing", "90/7", "1234/5678", "30/90", "timeout", "ago", "ok/failed"}
    assert words <= set(out.split())


@pytest.mark.parametrize(
    ("seconds", "says"), [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (86_400 * 3, "3 d")]
)
def test_how_long_ago_something_was_is_told_in_its_unit(seconds: float, says: str) -> None:
    at = datetime.fromisoformat(TIMEOUT["at"]).timestamp()
    assert tables.ago(TIMEOUT["at"], at + seconds) == f"{says} ago"


def test_what_is_no_time_is_shown_as_it_is() -> None:
    assert tables.ago("then\x1b", 0.0) == one_line("then\x1b")


def test_the_routes_of_a_running_gateway_are_shown(remote: Operator) -> None:
    heading, *rows = remote.do("routes", "list").splitlines()
    assert heading.split()[:3] == ["route", "tier", "circuit"]
    assert [row.split()[:3] for row in rows] == [
        ["sim-premium", "premium", "closed"],
        ["sim-economy", "economy", "closed"],
    ]


def test_as_json_the_answer_of_the_api_comes_as_it_is(remote: Operator) -> None:
    data = remote.told("routes", "list")["data"]
    assert [route["name"] for route in data] == ["sim-premium", "sim-economy"]
    assert remote.told("routes", "show", "sim-economy") == data[1]


def test_a_route_is_shown_with_its_limits_its_health_and_its_last_tries(
    remote: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(*_: object) -> dict[str, Any]:
        return page(SICK, None)

    monkeypatch.setattr("flatfee.cli.admin.client.Admin.get", get)
    lines = [line.split() for line in remote.do("routes", "show", "big").splitlines()]
    assert ["worker", "0.circuit", "half_open"] in lines
    assert ["worker", "0.outcomes.timeout", "4"] in lines
    assert ["worker", "1", "no", "answer"] in lines
    newest, oldest = lines[-2:]
    assert newest == ["2026-11-01", "12:01:00", "UTC", "0", "timeout", "-", "10,000", "-"]
    assert oldest == ["2026-11-01", "12:00:00", "UTC", "0", "ok", "200", "1,234", "30"]


def test_no_such_route_is_told_with_those_that_there_are(remote: Operator) -> None:
    told = remote.refused("routes", "show", "nobody")
    assert told == "There is no route 'nobody'; use one of: sim-premium, sim-economy.\n"


def test_without_a_url_the_gateway_is_asked_where_the_file_has_it_listen(
    served: DemoGateway, config: Path, flatfee: Flatfee
) -> None:
    port = served.url.removesuffix("/v1").rpartition(":")[2]
    config.write_text(config.read_text().replace("port = 0", f"port = {port}"))
    done = flatfee("routes", "list", "--config", str(config), env=ENV)
    assert done.exit_code == 0, done.output
    assert "sim-premium" in done.stdout


def test_a_gateway_that_does_not_run_is_told_with_both_cures(config: Path, flatfee: Flatfee) -> None:
    config.write_text(config.read_text().replace("port = 0", "port = 9"))
    done = flatfee("routes", "list", "--config", str(config), env=ENV)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("http://127.0.0.1:9 cannot be reached")
    assert f"{config} has it listen there" in done.stderr
    assert "serve'" in done.stderr
    assert "--url" in done.stderr


def test_one_that_was_named_is_not_blamed_on_the_file(flatfee: Flatfee) -> None:
    done = flatfee("routes", "list", "--url", "http://127.0.0.1:9", env=ENV)
    assert done.exit_code == 1
    assert "listen" not in done.stderr


@pytest.mark.parametrize(
    ("file", "env", "says"),
    [
        ("missing.toml", ENV, "There is no "),
        ("own.toml", ENV, "leaves the port to the system"),
        ("own.toml", {**ENV, "FLATFEE_PORT": "9"}, "127.0.0.1:9 cannot be reached"),
        ("own.toml", {"FLATFEE_PORT": "9"}, "Set FLATFEE_ADMIN_KEY"),
        ("own.toml", {**ENV, "FLATFEE_PORT": "x"}, "port"),
    ],
)
def test_what_leads_to_no_gateway_is_told_with_the_cure(
    file: str, env: dict[str, str], says: str, flatfee: Flatfee, config: Path
) -> None:
    done = flatfee("routes", "list", "--config", str(config.parent / file), env=env)
    assert done.exit_code in {1, 2}
    assert done.stdout == ""
    assert says in done.stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8787"),
        ("::", "http://[::1]:8787"),
        ("::1", "http://[::1]:8787"),
        ("10.1.2.3", "http://10.1.2.3:8787"),
    ],
)
def test_one_that_listens_everywhere_is_asked_on_loopback(
    host: str, url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(config.read_text().replace("port = 0", f'port = 8787, host = "{host}"'))
    assert reach._listens_at(config) == url


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_only_a_terminal_can_be_watched(more: tuple[str, ...], flatfee: Flatfee) -> None:
    done = flatfee("routes", "list", "--watch", *more, env=ENV)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--watch draws on a terminal" in done.stderr


def test_what_is_watched_is_drawn_again_until_it_is_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    pauses: list[float] = []

    class Answers(Admin):
        def __init__(self) -> None:
            """Reach nobody."""

        def get(self, where: str, **query: str | int | None) -> dict[str, Any]:
            assert (where, query) == ("/routes", {})
            return page(WELL)

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    command._watch(Answers(), pause)
    assert capsys.readouterr().out.count("big") == 3


def test_what_a_request_came_to_is_seen_at_once(served: DemoGateway, remote: Operator) -> None:
    remote.do("accounts", "create", "acme", "--plan", "pro")
    remote.do("projects", "create", "acme", "ci")
    ask(served, remote.do("keys", "create", "--account", "acme", "--project", "ci", "--name", "robot").strip())
    (worker,) = remote.told("routes", "show", "sim-premium")["workers"]
    assert worker["health"]["outcomes"] == {"ok": 1}
    assert worker["health"]["last_success"]["status"] == 200
