"""``flatfee reload``: what an operator sees of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.admin.conftest import SECRET, Operator
from tests.server.fakes import LIMIT

from flatfee.server.app import create_app
from flatfee.server.reload.source import Source
from flatfee.server.run import GatewayServer

pytestmark = pytest.mark.slow
"""What it starts takes its time; ``make check`` has that."""

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee


@pytest.fixture
def remote(flatfee: Flatfee, config: Path) -> Iterator[Operator]:
    """An operator of a gateway that runs on the file."""
    source = Source(path=config, env={"FLATFEE_ADMIN_KEY": SECRET})
    bound: Future[int] = Future()
    app = create_app(source.read(), source=source)
    server = GatewayServer(app, on_ready=lambda _, port: bound.set_result(port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{bound.result(LIMIT)}"
    yield Operator(flatfee, ("--url", url), {"FLATFEE_ADMIN_KEY": SECRET})
    server.should_exit = True
    thread.join(LIMIT)


@pytest.fixture
def edit(config: Path) -> Callable[[str, str], None]:
    def replace(old: str, new: str) -> None:
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))

    return replace


def test_what_changed_is_shown(remote: Operator, edit: Callable[[str, str], None]) -> None:
    edit('"sim-large"', '"sim-huge"')
    edit('{name = "small", fair_use = 500, window = "7d"}', '{name = "big", fair_use = 500}')
    edit("port = 0", "port = 0, max_requests = 7")
    assert remote.do("reload").splitlines() == [
        "Read again. What changed holds for every request that begins now:",
        "  routes: ~sim-premium",
        "  plans: +big -small",
        "  settings: server.max_requests",
    ]
    assert remote.do("reload") == "Read again: nothing has changed.\n"


def test_the_answer_is_json_where_that_is_asked_for(remote: Operator) -> None:
    assert remote.told("reload")["changed"] is False


def test_what_is_wrong_is_told_line_by_line(remote: Operator, edit: Callable[[str, str], None], config: Path) -> None:
    edit('tier = "premium"', 'tier = "fast"')
    edit('"7d"', '"7x"')
    first, *lines = remote.refused("reload").splitlines()
    assert first == "Nothing has changed (invalid_request):"
    assert [line.split(": ")[:2] for line in lines] == [
        [str(config), "routes[0].tier"],
        [str(config), "plans[1].window"],
    ]
    done = remote.run("reload", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["error"]["code"] == "invalid_request"


def test_a_wrong_key_is_told_as_ever(remote: Operator, flatfee: Flatfee) -> None:
    done = flatfee("reload", *remote.options, env={"FLATFEE_ADMIN_KEY": "x" * 40})
    assert done.exit_code == 1
    assert "The key is read from FLATFEE_ADMIN_KEY." in done.stderr
