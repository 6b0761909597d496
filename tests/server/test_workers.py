"""Several worker processes: who serves, who replaces whom, and how all of them end.

The system shares connections out by chance, so every test opens as many as make it sure that each worker
has some: with ``STREAMS`` of them, none is left out but once in millions of runs.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from tests.server.fakes_serve import (
    CONFIG,
    KEY,
    LIMIT,
    Served,
    SlowUpstream,
    ask,
    begun_stream,
    fail_to_serve,
    serving,
    slow_upstream,
)

from flatfee import Client, ReceiptState

pytestmark = pytest.mark.processes

READY = re.compile(r" worker\.ready worker=(\d) pid=(\d+)")
RUNNING = re.compile(r" (\S+)(?: signal=\w+)? running=(\d+) worker=(\d)")
LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [\w.]+ ")
STREAMS = 24
FINISHED = f"two{ReceiptState.SETTLED}"


@pytest.fixture
def upstream() -> Iterator[SlowUpstream]:
    with slow_upstream() as server:
        yield server


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


def pids(folder: Path) -> list[int]:
    """The workers that became ready, in that order."""
    return [int(pid) for _, pid in READY.findall(log_of(folder))]


def running(folder: Path, event: str) -> list[int]:
    """How many requests each worker had that logged ``event``."""
    return [int(count) for name, count, _ in RUNNING.findall(log_of(folder)) if name == event]


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"still waiting for {what}"
        time.sleep(0.01)


def wait_until_nothing_runs(served: Served) -> None:
    """Return once no process is left that could write where the gateway wrote: every one inherits that."""
    assert served.process.stdout
    pipe, end = served.process.stdout.fileno(), time.monotonic() + LIMIT
    while True:
        readable, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
        assert readable, "a process was left over"
        if not os.read(pipe, 65_536):
            return


@contextmanager
def two_workers(folder: Path, upstream: SlowUpstream | None = None, **more: str) -> Iterator[Served]:
    """A gateway of two workers on one file, with a directory for what it keeps while it runs."""
    text = CONFIG.format(upstream=upstream.server_port if upstream else 9)
    text = text.replace("memory://", f"sqlite:///{folder}/ledger.db")
    text = text.replace("fair_use = 100000", "fair_use = 100000000, concurrent_workflows = 100")
    (folder / "flatfee.toml").write_text(text)
    with TemporaryDirectory() as temporary:  # a shorter path than the test's own, as sockets need it
        (folder / "temporary").symlink_to(temporary)
        env = {"SLOW_KEY": "upstream", "CI_KEY": KEY, "TMPDIR": temporary, **more}
        with serving(folder, "--workers", "2", **env) as served:
            yield served


@contextmanager
def streams(served: Served) -> Iterator[list[Iterator[str]]]:
    """Streams that have begun, in every worker; each yields the rest of its words."""
    with ExitStack() as begun:
        client = begun.enter_context(Client(api_key=KEY, base_url=served.url))
        yield [begun.enter_context(begun_stream(client)) for _ in range(STREAMS)]


def healthy(served: Served) -> bool:
    """Ask on a connection of its own."""
    with served.connect() as connection:
        return ask(connection, "GET", "/health/ready").status == 200


def test_every_worker_serves_and_all_count_on_one_ledger(upstream: SlowUpstream, tmp_path: Path) -> None:
    with two_workers(tmp_path, upstream) as served, streams(served) as rests:
        upstream.go_on.set()
        assert ["".join(rest) for rest in rests] == [FINISHED] * STREAMS
        used = set()
        for _ in range(STREAMS):
            with served.connect() as connection:
                usage = json.loads(ask(connection, "GET", "/v1/usage").read())
            used.add((usage["fair_use"]["used"], usage["fair_use"]["pending"], usage["workflows"]["active"]))
        assert used == {(STREAMS * (1 + 4 * 2), 0, 0)}


def test_ready_is_told_once_when_every_worker_is_and_the_address_is_then_taken(tmp_path: Path) -> None:
    with two_workers(tmp_path) as served:
        log = log_of(tmp_path)
        assert sorted(number for number, _ in READY.findall(log)) == ["0", "1"]
        assert log.rindex("worker.ready") < log.index("server.ready")
        told = fail_to_serve(tmp_path, "--workers", "2", "--port", str(urlsplit(served.url).port))
        assert "The port is taken" in told
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == 0
        assert served.process.stdout
        assert served.process.stdout.read() == ""


def test_a_worker_that_is_killed_is_replaced_and_service_goes_on(tmp_path: Path) -> None:
    with two_workers(tmp_path) as served:
        first, second = pids(tmp_path)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: f"pid={first} how=SIGKILL restart_in=0.0\n" in log_of(tmp_path), "the death")
        assert all(healthy(served) for _ in range(STREAMS))
        wait_for(lambda: len(pids(tmp_path)) == 3, "the new worker")
        os.kill(second, signal.SIGKILL)
        wait_for(lambda: f"pid={second} how=SIGKILL restart_in=0.0\n" in log_of(tmp_path), "the other death")
        assert healthy(served)  # and only the new worker can have said so


@pytest.mark.parametrize("who", ["the parent", "every process", "one worker"])
def test_a_signal_lets_streams_finish(who: str, upstream: SlowUpstream, tmp_path: Path) -> None:
    """A service manager signals every process, a terminal too: that is one signal, not two."""
    with two_workers(tmp_path, upstream) as served:
        one, other = pids(tmp_path)
        told = {"the parent": [], "every process": [one, other], "one worker": [one, one]}[who]
        if who != "one worker":
            told.append(served.process.pid)
        with streams(served) as rests, served.connect() as new:
            for pid in told:
                os.kill(pid, signal.SIGTERM)
            event = "worker.draining" if who == "the parent" else "server.draining"
            draining = 1 if who == "one worker" else 2
            wait_for(lambda: len(running(tmp_path, event)) == draining, "workers to drain")
            assert 0 not in running(tmp_path, event)
            if who != "one worker":
                assert sum(running(tmp_path, event)) == STREAMS
                refused = ask(new, "POST", "/v1/chat/completions")
                assert (refused.status, json.loads(refused.read())["error"]["code"]) == (503, "gateway_overloaded")
            assert served.process.poll() is None
            upstream.go_on.set()
            assert ["".join(rest) for rest in rests] == [FINISHED] * STREAMS
        if who == "one worker":
            wait_for(lambda: len(pids(tmp_path)) == 3, "the new worker")
            served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == 0
        wait_until_nothing_runs(served)
        assert list((tmp_path / "temporary").iterdir()) == []
    assert log_of(tmp_path).count("how='exit 0'") == (3 if who == "one worker" else 2)
    assert "server.stopped" in log_of(tmp_path)


def test_what_is_new_goes_to_the_others_while_a_worker_drains(upstream: SlowUpstream, tmp_path: Path) -> None:
    with two_workers(tmp_path, upstream) as served, streams(served) as rests:
        one, _ = pids(tmp_path)
        os.kill(one, signal.SIGTERM)
        while not running(tmp_path, "server.draining"):
            assert healthy(served)
        assert 0 not in running(tmp_path, "server.draining")
        assert all(healthy(served) for _ in range(STREAMS))
        upstream.go_on.set()
        assert ["".join(rest) for rest in rests] == [FINISHED] * STREAMS
        wait_for(lambda: len(pids(tmp_path)) == 3, "the new worker")


def test_a_worker_whose_parent_does_not_answer_drains_all_the_same(tmp_path: Path) -> None:
    with two_workers(tmp_path) as served:
        one, _ = pids(tmp_path)
        os.kill(served.process.pid, signal.SIGSTOP)
        try:
            os.kill(one, signal.SIGTERM)
            wait_for(lambda: running(tmp_path, "server.draining"), "the worker to drain")
        finally:
            os.kill(served.process.pid, signal.SIGCONT)
        wait_for(lambda: len(pids(tmp_path)) == 3, "the new worker")


def test_a_second_signal_does_not_wait_for_the_streams(upstream: SlowUpstream, tmp_path: Path) -> None:
    with two_workers(tmp_path, upstream) as served, streams(served):
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: sum(running(tmp_path, "worker.draining")) == STREAMS, "workers to drain")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == -signal.SIGTERM
        assert not upstream.go_on.is_set()
        wait_until_nothing_runs(served)
        assert [line for line in log_of(tmp_path).splitlines() if not LINE.match(line)] == []
        assert list((tmp_path / "temporary").iterdir()) == []


def test_workers_whose_parent_is_killed_finish_their_streams_leave_the_address_and_end(
    upstream: SlowUpstream, tmp_path: Path
) -> None:
    with two_workers(tmp_path, upstream) as served, streams(served) as rests:
        served.process.kill()
        wait_for(lambda: sum(running(tmp_path, "worker.orphaned")) == STREAMS, "workers to notice")
        assert 0 not in running(tmp_path, "worker.orphaned")
        with socket.create_server(("127.0.0.1", urlsplit(served.url).port or 0)):
            pass  # another gateway can take their place
        upstream.go_on.set()
        assert ["".join(rest) for rest in rests] == [FINISHED] * STREAMS
        wait_until_nothing_runs(served)
        assert list((tmp_path / "temporary").iterdir()) == []


def test_secrets_reach_workers_past_command_lines_and_files_and_others_cannot_meet_them(tmp_path: Path) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("the system does not show command lines here")
    with two_workers(tmp_path) as served:
        for pid in (served.process.pid, *pids(tmp_path)):
            assert KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
        (meeting,) = (tmp_path / "temporary").iterdir()
        assert stat.S_IMODE(meeting.stat().st_mode) == 0o700


ADMIN_KEY = "another-secret-of-the-operator-of-this-gateway"


def circuits(connection: http.client.HTTPConnection) -> list[str | None]:
    """Ask one worker for the circuit of the one route in every worker; ``None`` where that did not answer."""
    connection.request("GET", "/admin/v1/routes", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    response = connection.getresponse()
    assert response.status == 200
    (route,) = json.loads(response.read())["data"]
    assert [told["worker"] for told in route["workers"]] == [0, 1]
    assert all(told["answered"] is (told["health"] is not None) for told in route["workers"])
    return [told["health"]["circuit"] if told["answered"] else None for told in route["workers"]]


def test_whichever_worker_is_asked_it_tells_the_health_of_the_routes_in_all(tmp_path: Path) -> None:
    body = json.dumps({"model": "premium", "messages": [{"role": "user", "content": "Hello"}]}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    with two_workers(tmp_path, FLATFEE_ADMIN_KEY=ADMIN_KEY) as served, served.connect() as one:
        for _ in range(3):  # nobody listens where the route leads, so one worker's circuit opens
            one.request("POST", "/v1/chat/completions", body, headers)
            response = one.getresponse()
            response.read()
            assert response.status == 503
        told = circuits(one)
        assert sorted(told, key=str) == ["closed", "open"]
        for _ in range(STREAMS):
            with served.connect() as any_worker:
                assert circuits(any_worker) == told
        silent = told.index("closed")
        (pid,) = [int(pid) for number, pid in READY.findall(log_of(tmp_path)) if int(number) == silent]
        os.kill(pid, signal.SIGSTOP)
        try:
            now = circuits(one)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert now[silent] is None
        assert now[1 - silent] in {"open", "half_open"}
        assert circuits(one)[silent] == "closed"


ONCE = """
providers = [{{name = "sim", kind = "simulated"}}]
routes = [{{name = "sim-premium", provider = "sim", model = "sim", tier = "premium"}}]
plans = [{{name = "pro", fair_use = 1000000, concurrent_workflows = 100}}]
accounts = [{{name = "acme", plan = "pro", projects = [{{name = "ci", keys = [{{name = "ci", key_env = "CI_KEY"}}]}}]}}]
server = {{store = "sqlite:///{folder}/ledger.db", port = 0}}
"""


def test_an_answer_is_given_again_whichever_worker_the_repeat_meets(tmp_path: Path) -> None:
    """Each try comes over a connection of its own, so that some meet the other worker."""
    body = json.dumps({"model": "premium", "messages": [{"role": "user", "content": "Hello"}], "stream": True}).encode()
    headers = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "idempotency-key": "once",
    }

    def ask_once(served: Served) -> tuple[int, bytes]:
        with served.connect() as connection:
            connection.request("POST", "/v1/chat/completions", body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    (tmp_path / "once.toml").write_text(ONCE.format(folder=tmp_path))
    with serving(tmp_path, "--config", "once.toml", "--workers", "2", CI_KEY=KEY) as served:
        answers = {ask_once(served) for _ in range(STREAMS)}
        with Client(base_url=served.url, api_key=KEY) as client:
            charged = [receipt.fair_use.charged for receipt in client.receipts.list().data if receipt.fair_use]
    ((status, _),) = answers
    assert status == 200
    assert len(charged) == 1
