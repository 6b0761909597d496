"""``flatfee serve``: how it says that it is ready, and how it ends."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
    wait_until_draining,
)

from flatfee import Client, ReceiptState
from flatfee.cli.serve import demo_settings
from flatfee.server.workers import NotStarted

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

LONGER_THAN_A_CANCEL = 3.0
"""Seconds after which a gateway that does not wait for its streams has cut them."""


@pytest.fixture
def upstream() -> Iterator[SlowUpstream]:
    with slow_upstream() as server:
        yield server


@contextmanager
def streaming(upstream: SlowUpstream, folder: Path) -> Iterator[tuple[Served, Iterator[str]]]:
    """A gateway with one stream under way: its first word was heard, the rest waits for the upstream."""
    (folder / "flatfee.toml").write_text(CONFIG.format(upstream=upstream.server_port))
    with (
        serving(folder, SLOW_KEY="upstream", CI_KEY=KEY) as served,
        Client(api_key=KEY, base_url=served.url) as client,
        begun_stream(client) as rest,
    ):
        yield served, rest


@pytest.mark.processes
def test_the_ready_line_comes_through_a_pipe_before_anything_is_asked(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as served, served.connect() as connection:
        assert ask(connection, "GET", "/health/ready").status == 200


@pytest.mark.processes
def test_without_a_file_the_lines_shown_make_a_first_request(tmp_path: Path) -> None:
    """The export and the curl line are run as they are printed, one after the other."""
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    with serving(tmp_path, "--port", "0") as served:
        assert served.process.stdout
        shown = "".join(itertools.takewhile(lambda line: " chat " not in line, served.process.stdout))
        lines = shown[shown.index("export") :].replace("and then", "")
        key = next(word for word in shown.split() if "ff_proj_" in word).partition("=")[2]
        assert shown.count(key) == 1
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines], capture_output=True, text=True, check=False, timeout=LIMIT
        )
        assert json.loads(done.stdout)["flatfee"]["state"] == ReceiptState.SETTLED, done.stderr
        assert served.url in lines
    assert key not in (tmp_path / "log").read_text()


@pytest.mark.processes
def test_start_and_end_are_logged_as_our_events_and_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as served:
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["INFO", "flatfee.server", f"server.{event}"] for event in ("ready", "draining", "stopped")
    ]
    assert f"url={served.url} store=memory://" in lines[0]


@pytest.mark.processes
def test_at_a_signal_the_stream_that_runs_is_finished_and_what_is_new_is_refused(
    upstream: SlowUpstream, tmp_path: Path
) -> None:
    with streaming(upstream, tmp_path) as (served, rest), served.connect() as kept, served.connect() as new:
        assert ask(kept, "GET", "/health/live").read() == b'{"status":"live"}'
        served.process.send_signal(signal.SIGTERM)
        wait_until_draining(kept)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(LONGER_THAN_A_CANCEL)
        for connection in (kept, new):
            refused = ask(connection, "POST", "/v1/chat/completions")
            assert refused.status == 503
            assert json.loads(refused.read())["error"]["code"] == "gateway_overloaded"
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["x-should-retry"] == "true"
        upstream.go_on.set()
        assert "".join(rest) == f"two{ReceiptState.SETTLED}"
        assert served.process.wait(LIMIT) == 0


@pytest.mark.processes
def test_a_second_signal_does_not_wait_for_the_stream(upstream: SlowUpstream, tmp_path: Path) -> None:
    with streaming(upstream, tmp_path) as (served, _), served.connect() as connection:
        served.process.send_signal(signal.SIGTERM)
        wait_until_draining(connection)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(LIMIT) == -signal.SIGTERM
        assert not upstream.go_on.is_set()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.processes
def test_a_port_that_is_taken_is_told_with_the_cure(workers: str, tmp_path: Path) -> None:
    (tmp_path / "flatfee.toml").write_text(CONFIG.format(upstream=9).replace("memory://", "sqlite:///ledger.db"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = fail_to_serve(tmp_path, "--port", port, "--workers", workers)
    assert f"did not start on 127.0.0.1:{port}. The port is taken: --port" in told


@pytest.mark.processes
def test_an_address_of_another_machine_is_told_with_the_cure(tmp_path: Path) -> None:
    told = fail_to_serve(tmp_path, "--host", "192.0.2.1", "--port", "0")
    assert "did not start on 192.0.2.1:0. This machine has no such address: --host" in told


@pytest.mark.parametrize(
    ("cause", "cure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "--host takes an address of this machine"),
        (PermissionError(errno.EACCES, "Permission denied"), "--port takes a port above 1023"),
        (OSError(errno.EMFILE, "Too many open files"), "The log says why"),
        (None, "The log says why"),
    ],
)
def test_the_cure_follows_from_what_the_system_said(
    cause: Exception | None, cure: str, flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_started(app: object, on_ready: object) -> None:
        """End as uvicorn does."""
        try:
            if cause:
                raise cause
        finally:
            sys.exit(3)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flatfee.server.run.run", not_started)
    shown = flatfee("serve")
    assert shown.exit_code == 1
    assert "did not start on 127.0.0.1:8787. " in shown.stderr
    assert cure in shown.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_store_that_cannot_be_opened_is_told_with_key_and_cure(
    by_environment: bool, workers: str, flatfee: Flatfee, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/missing/ledger.db"
    path = tmp_path / "own.toml"
    path.write_text(CONFIG.format(upstream=9).replace("memory://", "memory://" if by_environment else store))
    env = {"SLOW_KEY": "upstream", "CI_KEY": KEY} | ({"FLATFEE_STORE": store} if by_environment else {})
    shown = flatfee("serve", "--config", str(path), "--workers", workers, env=env)
    assert shown.exit_code == 2
    where = "FLATFEE_STORE" if by_environment else f"{path}: [server] store"
    assert shown.stderr.startswith(f"{where}: the store {tmp_path}/missing/ledger.db cannot be opened")
    assert "Make its folder" in shown.stderr


@pytest.mark.parametrize("where", ["the demo configuration: [server] store", "FLATFEE_STORE"])
def test_a_ledger_in_memory_is_not_for_several_workers(
    where: str, flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = flatfee("serve", "--workers", "3", env={"FLATFEE_STORE": "memory://"} if where == "FLATFEE_STORE" else {})
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"{where}: 'memory://' would be a ledger for each of 3 workers")
    assert "FLATFEE_STORE=sqlite:///flatfee.db, or leave --workers out." in shown.stderr


@pytest.mark.parametrize(("reason", "told"), [("Worker 1: no.", "Worker 1: no."), ("", "The log says why.")])
def test_a_worker_that_cannot_start_is_told_with_its_reason(
    reason: str, told: str, flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_started(settings: object, count: int, source: object, on_ready: object) -> None:
        raise NotStarted(reason)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flatfee.server.workers.run_workers", not_started)
    shown = flatfee("serve", "--workers", "2", env={"FLATFEE_STORE": f"sqlite:///{tmp_path}/ledger.db"})
    assert shown.exit_code == 1
    assert shown.stderr == f"The gateway did not start on 127.0.0.1:8787. {told}\n"


def test_a_mistake_in_the_file_is_told_with_file_key_and_cure(flatfee: Flatfee, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[server]\nprot = 1\n")
    shown = flatfee("serve", "--config", str(path))
    assert shown.exit_code == 2
    assert f"{path}: server.prot: unknown key" in shown.stderr
    assert "port" in shown.stderr


def test_an_address_of_the_sixth_version_is_shown_in_brackets(
    flatfee: Flatfee, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flatfee.server.run.run", lambda app, on_ready: on_ready("::1", 8787))
    shown = flatfee("serve")
    assert shown.stdout.startswith("flatfee is ready on http://[::1]:8787/v1\n")
    assert "ff_proj_" in shown.stdout


def test_the_demo_configuration_takes_the_servers_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATFEE_PORT", "9999")
    settings = demo_settings(KEY)
    assert settings.server.port == 9999
    assert settings.accounts[0].projects[0].keys[0].secret.get_secret_value() == KEY
