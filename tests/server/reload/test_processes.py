"""A reload of real processes under load: no request fails, no stream breaks, and then everybody serves the new file."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from tests.server.fakes_serve import KEY, LIMIT, Served, SlowUpstream, begun_stream, serving, slow_upstream

from flatfee import Client, ReceiptState

pytestmark = pytest.mark.processes

ADMIN_KEY = "another-secret-of-the-operator-of-this-gateway"
READY = re.compile(r" worker\.ready worker=(\d) pid=(\d+)")
EACH_WORKER = 24
"""Connections of their own that none of two workers is left out of, but once in millions of runs."""

FILE = """
providers = [
    {{name = "slow", kind = "openai", base_url = "http://127.0.0.1:{upstream}/v1", api_key_env = "SLOW_KEY"}},
    {{name = "sim", kind = "simulated"}},
]
routes = [
    {{name = "slow-premium", provider = "slow", model = "slow", tier = "premium", first_token_timeout = 60.0}},
    {{name = "sim-economy", provider = "sim", model = "before", tier = "economy"}},
]
plans = [{{name = "pro", fair_use = 100000000, concurrent_workflows = 1000}}]
accounts = [{{name = "acme", plan = "pro", projects = [{{name = "ci", keys = [{{name = "ci", key_env = "CI_KEY"}}]}}]}}]
server = {{store = "sqlite:///{folder}/ledger.db", port = 0}}
"""
AFTER = """
providers = [{{name = "sim", kind = "simulated"}}]
routes = [
    {{name = "sim-premium", provider = "sim", model = "sim", tier = "premium"}},
    {{name = "sim-economy", provider = "sim", model = "after", tier = "economy"}},
]
plans = [{{name = "max", fair_use = 200000000, concurrent_workflows = 1000}}]
accounts = [{{name = "acme", plan = "max", projects = [{{name = "ci", keys = [{{name = "ci", key_env = "CI_KEY"}}]}}]}}]
server = {{store = "sqlite:///{folder}/ledger.db", port = 0}}
"""


@pytest.fixture
def upstream() -> Iterator[SlowUpstream]:
    with slow_upstream() as server:
        yield server


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.01)


@contextmanager
def gateway(folder: Path, upstream: SlowUpstream, workers: int) -> Generator[Served]:
    (folder / "flatfee.toml").write_text(FILE.format(upstream=upstream.server_port, folder=folder))
    with TemporaryDirectory() as temporary:
        env = {"SLOW_KEY": "upstream", "CI_KEY": KEY, "FLATFEE_ADMIN_KEY": ADMIN_KEY, "TMPDIR": temporary}
        with serving(folder, "--workers", str(workers), **env) as served:
            yield served


def write_anew(folder: Path, text: str = AFTER) -> None:
    """As an editor does: at no moment is there half a file."""
    (folder / "new").write_text(text.format(folder=folder))
    (folder / "new").rename(folder / "flatfee.toml")


def model_of(served: Served) -> str:
    """Return the model that answers on a connection of its own; every request must be answered."""
    with served.connect() as connection:
        return _ask(connection)


def _ask(connection: http.client.HTTPConnection) -> str:
    body = json.dumps({"model": "economy", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    response = connection.getresponse()
    told = response.read()
    assert response.status == 200, told
    return str(json.loads(told)["flatfee"]["model_served"])


def reload(served: Served) -> tuple[int, dict[str, object]]:
    with served.connect() as connection:
        connection.request("POST", "/admin/v1/reload", headers={"authorization": f"Bearer {ADMIN_KEY}"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


class Load:
    """Requests without a pause on a few connections, until it is ended; what went wrong is kept."""

    def __init__(self, served: Served, count: int = 3) -> None:
        self._served = served
        self._end = threading.Event()
        self.failures: list[BaseException] = []
        self.models: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]

    def _run(self) -> None:
        try:
            while not self._end.is_set():
                with self._served.connect() as connection:
                    for _ in range(20):
                        self.models.append(_ask(connection))
        except BaseException as error:
            self.failures.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(LIMIT)


@contextmanager
def streams(served: Served, count: int) -> Generator[list[Iterator[str]]]:
    with ExitStack() as begun:
        client = begun.enter_context(Client(api_key=KEY, base_url=served.url))
        yield [begun.enter_context(begun_stream(client)) for _ in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_at_a_signal_all_serve_the_new_file_and_nothing_breaks(
    tmp_path: Path, upstream: SlowUpstream, workers: int
) -> None:
    with gateway(tmp_path, upstream, workers) as served, streams(served, EACH_WORKER) as running:
        with Load(served) as load:
            wait_for(lambda: len(load.models) > 20, "requests before")
            write_anew(tmp_path)
            served.process.send_signal(signal.SIGHUP)
            wait_for(lambda: "settings.reloaded" in log_of(tmp_path), "the reload")
            mark = len(load.models)
            wait_for(lambda: len(load.models) > mark + 20 or load.failures, "requests after")
        assert load.failures == []
        assert {model_of(served) for _ in range(EACH_WORKER)} == {"after"}
        upstream.go_on.set()
        assert ["".join(rest) for rest in running] == [f"two{ReceiptState.SETTLED}"] * EACH_WORKER
        assert "worker.died" not in log_of(tmp_path)
        assert KEY not in log_of(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_is_told_and_nothing_changes(tmp_path: Path, upstream: SlowUpstream, workers: int) -> None:
    with gateway(tmp_path, upstream, workers) as served:
        write_anew(tmp_path, "no = [toml")
        served.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "settings.reload_refused" in log_of(tmp_path), "the refusal")
        status, told = reload(served)
        assert (status, told["error"]["code"]) == (400, "invalid_request")  # type: ignore[index] # an envelope
        assert {model_of(served) for _ in range(EACH_WORKER)} == {"before"}


def test_whichever_worker_is_asked_it_answers_once_all_have_it(tmp_path: Path, upstream: SlowUpstream) -> None:
    with gateway(tmp_path, upstream, 2) as served:
        for number in range(6):
            write_anew(tmp_path, AFTER.replace('"after"', f'"after-{number}"'))
            status, told = reload(served)
            assert (status, told["changed"]) == (200, True), told
            assert {model_of(served) for _ in range(EACH_WORKER)} == {f"after-{number}"}


def test_a_worker_that_is_killed_meanwhile_comes_back_with_the_new_file(tmp_path: Path, upstream: SlowUpstream) -> None:
    with gateway(tmp_path, upstream, 2) as served:
        (victim, *_) = [int(pid) for _, pid in READY.findall(log_of(tmp_path))]
        os.kill(victim, signal.SIGSTOP)  # so that the reload waits for it
        write_anew(tmp_path)
        served.process.send_signal(signal.SIGHUP)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: "settings.reloaded" in log_of(tmp_path), "the reload")
        wait_for(lambda: len(READY.findall(log_of(tmp_path))) == 3, "another worker")
        assert {model_of(served) for _ in range(EACH_WORKER)} == {"after"}


def test_a_worker_that_is_signalled_itself_goes_on(tmp_path: Path, upstream: SlowUpstream) -> None:
    """A terminal that is closed tells every process of the gateway."""
    with gateway(tmp_path, upstream, 2) as served:
        for _, pid in READY.findall(log_of(tmp_path)):
            os.kill(int(pid), signal.SIGHUP)
        write_anew(tmp_path)
        assert reload(served)[0] == 200
        assert "worker.died" not in log_of(tmp_path)
