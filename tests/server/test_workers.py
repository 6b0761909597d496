"""Several worker processes: who serves, who replaces whom, and how all of them end.

A worker that is stopped (``SIGSTOP``) accepts nothing, so that what is asked meanwhile is answered by
the others: no test depends on how the system shares connections out.
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
from typing import Any
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
    serving,
    slow_upstream,
    wait_until_draining,
)

from flatfee import Client, ReceiptState

READY = re.compile(r" worker\.ready worker=(\d) pid=(\d+)")
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
def two_workers(folder: Path, upstream_port: int = 9, *arguments: str) -> Iterator[Served]:
    """A gateway of two workers on one file, with a directory for what it keeps while it runs."""
    (folder / "temporary").mkdir()
    text = CONFIG.format(upstream=upstream_port).replace("memory://", f"sqlite:///{folder}/ledger.db")
    (folder / "flatfee.toml").write_text(text)
    env = {"SLOW_KEY": "upstream", "CI_KEY": KEY, "TMPDIR": f"{folder}/temporary"}
    with serving(folder, "--workers", "2", *arguments, **env) as served:
        yield served


@contextmanager
def standing_still(*workers: int) -> Iterator[None]:
    """Stop these workers for the length of the block."""
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def a_stream_in_every_worker(served: Served, folder: Path) -> Iterator[list[Iterator[str]]]:
    """A stream begun in each of the workers, while the others stood still."""
    workers = pids(folder)
    with ExitStack() as streams:
        rests = []
        for worker in workers:
            with standing_still(*(pid for pid in workers if pid != worker)):
                rests.append(streams.enter_context(begun_stream(served)))
        yield rests


def spend(served: Served, upstream: SlowUpstream) -> int:
    """Ask for one answer, and return the units used until then."""
    upstream.go_on.set()
    with Client(api_key=KEY, base_url=served.url) as client:
        with client.chat.completions.create(
            messages=[{"role": "user", "content": "Go"}], model="auto", stream=True
        ) as stream:
            for _ in stream:
                pass
        with served.connect() as connection:
            used: int = json.loads(ask(connection, "GET", "/v1/usage").read())["fair_use"]["used"]
            return used


def test_every_worker_answers_and_all_count_on_one_ledger(upstream: SlowUpstream, tmp_path: Path) -> None:
    with two_workers(tmp_path, upstream.server_port) as served:
        first, second = pids(tmp_path)
        with standing_still(first):
            once = spend(served, upstream)
        with standing_still(second):
            assert spend(served, upstream) == 2 * once > 0


def test_ready_is_told_once_when_every_worker_is(tmp_path: Path) -> None:
    with two_workers(tmp_path) as served:
        log = log_of(tmp_path)
        assert [number for number, _ in sorted(READY.findall(log))] == ["0", "1"]
        assert log.rindex("worker.ready") < log.index("server.ready")
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == 0
        assert served.process.stdout
        assert served.process.stdout.read() == ""


def test_a_worker_that_is_killed_is_replaced_and_service_goes_on(tmp_path: Path) -> None:
    with two_workers(tmp_path) as served:
        killed, other = pids(tmp_path)
        os.kill(killed, signal.SIGKILL)
        with served.connect() as connection:
            assert ask(connection, "GET", "/health/ready").status == 200
        wait_for(lambda: len(pids(tmp_path)) == 3, "the new worker")
        with standing_still(other), served.connect() as connection:
            assert ask(connection, "GET", "/health/ready").status == 200
    assert f" pid={killed} how=SIGKILL restart_in=0.0\n" in log_of(tmp_path)


def test_a_worker_that_is_told_to_end_finishes_its_stream_and_is_replaced(
    upstream: SlowUpstream, tmp_path: Path
) -> None:
    with two_workers(tmp_path, upstream.server_port) as served:
        first, second = pids(tmp_path)
        with standing_still(second):
            stream = begun_stream(served)
            rest = stream.__enter__()
        os.kill(first, signal.SIGTERM)
        os.kill(first, signal.SIGTERM)
        wait_for(lambda: "server.draining signal=SIGTERM running=1 worker=" in log_of(tmp_path), "the signal")
        upstream.go_on.set()
        assert "".join(rest) == FINISHED
        stream.__exit__(None, None, None)
        wait_for(lambda: len(pids(tmp_path)) == 3, "the new worker")


@pytest.mark.parametrize("everyone", [False, True], ids=["the parent", "every process"])
def test_a_signal_lets_the_streams_of_every_worker_finish(
    everyone: bool, upstream: SlowUpstream, tmp_path: Path
) -> None:
    """A service manager signals every process, a terminal too: that is one signal, not two."""
    with (
        two_workers(tmp_path, upstream.server_port) as served,
        a_stream_in_every_worker(served, tmp_path) as rests,
        served.connect() as new,
    ):
        for pid in (served.process.pid, *(pids(tmp_path) if everyone else ())):
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: log_of(tmp_path).count("running=1 worker=") == 2, "both workers to drain")
        refused = ask(new, "POST", "/v1/chat/completions")
        assert (refused.status, json.loads(refused.read())["error"]["code"]) == (503, "gateway_overloaded")
        assert served.process.poll() is None
        upstream.go_on.set()
        assert ["".join(rest) for rest in rests] == [FINISHED, FINISHED]
        assert served.process.wait(LIMIT) == 0
        wait_until_nothing_runs(served)
        assert list((tmp_path / "temporary").iterdir()) == []
    assert log_of(tmp_path).count("how='exit 0'") == 2
    assert "server.stopped" in log_of(tmp_path)


def test_a_second_signal_does_not_wait_for_the_streams(upstream: SlowUpstream, tmp_path: Path) -> None:
    with (
        two_workers(tmp_path, upstream.server_port) as served,
        a_stream_in_every_worker(served, tmp_path),
        served.connect() as connection,
    ):
        served.process.send_signal(signal.SIGTERM)
        wait_until_draining(connection)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == -signal.SIGTERM
        assert not upstream.go_on.is_set()
        wait_until_nothing_runs(served)
        assert list((tmp_path / "temporary").iterdir()) == []


def test_workers_whose_parent_is_killed_finish_their_streams_leave_the_address_and_end(
    upstream: SlowUpstream, tmp_path: Path
) -> None:
    with (
        two_workers(tmp_path, upstream.server_port) as served,
        a_stream_in_every_worker(served, tmp_path) as rests,
    ):
        served.process.kill()
        wait_for(lambda: log_of(tmp_path).count("worker.orphaned running=1") == 2, "both workers to notice")
        with pytest.raises(ConnectionRefusedError), served.connect() as connection:
            connection.connect()
        port = int(urlsplit(served.url).port or 0)
        with socket.create_server(("127.0.0.1", port)):  # so that another gateway can take their place
            pass
        upstream.go_on.set()
        assert ["".join(rest) for rest in rests] == [FINISHED, FINISHED]
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


def test_connections_that_come_while_a_worker_is_replaced_are_served(tmp_path: Path) -> None:
    """The parent holds the address: with every worker dead, connections wait for the next one."""
    with two_workers(tmp_path) as served:
        for pid in pids(tmp_path):
            os.kill(pid, signal.SIGKILL)
        connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=LIMIT)
        statuses: list[Any] = []
        while not statuses:
            try:
                statuses.append(ask(connection, "GET", "/health/ready").status)
            except ConnectionError:  # a dying worker had accepted it already
                connection.close()
        connection.close()
    assert statuses == [200]
