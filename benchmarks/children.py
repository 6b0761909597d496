"""Child processes: started on one core, waited for on a condition, ended by whoever began them.

Only processes started here are ever signalled. No measuring.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_READY_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0

_PARENT, _USER_TICKS, _SYSTEM_TICKS, _RESIDENT_PAGES = 1, 11, 12, 21
"""Where these stand in /proc/PID/stat, counted from the state on."""


class BenchmarkFailed(Exception):
    """A figure could not be taken, or must not be trusted; the message says why."""


Cores = int | frozenset[int] | None
"""Where a child may run: on one core, on these, or wherever the system likes."""


def cores() -> tuple[int | None, int | None]:
    """Return the core of the process under measurement, and the core of all others.

    ``None`` twice where there is one core only, or where the system cannot pin processes.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) >= 2 else (None, None)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def run(command: Sequence[str], *, core: Cores, timeout: float, env: Mapping[str, str] | None = None) -> str:
    """Run a child to its end and return what it printed.

    Raises:
        BenchmarkFailed: it failed, or did not end within ``timeout`` seconds.
    """
    with _pinned(core):
        child = subprocess.Popen(
            command, cwd=ROOT, env=_environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchmarkFailed(f"{_name(command)} did not end within {timeout:.0f} s.") from None
    finally:
        _end(child)
    if child.returncode:
        raise BenchmarkFailed(f"{_name(command)} failed (exit {child.returncode}): {_last_lines(err)}")
    return out


@contextmanager
def server(
    command: Sequence[str],
    *,
    url: str | Callable[[], str | None],
    core: Cores,
    log: Path,
    env: Mapping[str, str] | None = None,
    status: int = 200,
) -> Iterator[int]:
    """Run a server until the block ends; yields its process id once ``url`` answers with ``status``.

    A server that chooses its port itself is given a callable, which returns ``None`` until the port is known.

    Raises:
        BenchmarkFailed: it ended, or was not ready in time; the message quotes its last words.
    """
    with log.open("wb") as sink, _pinned(core):
        child = subprocess.Popen(command, cwd=ROOT, env=_environment(env), stdout=sink, stderr=subprocess.STDOUT)
    try:
        _await_ready(child, command, url if callable(url) else lambda: url, status, log)
        yield child.pid
    finally:
        _end(child)


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process and all under it used so far; ``None`` where the system does not tell."""
    found = _family(pid)
    if found is None:
        return None
    return sum(int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS]) for fields in found) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float | None:
    """Return the memory of a process and all under it, in 10^6 bytes; what they share counts once for each."""
    found = _family(pid)
    if found is None:
        return None
    return sum(int(fields[_RESIDENT_PAGES]) for fields in found) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _family(pid: int) -> list[list[str]] | None:
    """Return what the system tells of a process and all under it, from each one's state on."""
    told: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            told[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    if pid not in told:
        return None
    found = [pid]
    for one in found:  # which grows while it is gone through
        found += [child for child, fields in told.items() if int(fields[_PARENT]) == one]
    return [told[one] for one in found]


@contextmanager
def _pinned(core: Cores) -> Iterator[None]:
    """Let children started in this block inherit their cores, without a moment on any other."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core} if isinstance(core, int) else core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return this environment, with the checkout's own sources first: they are what is measured."""
    path = os.pathsep.join(part for part in (str(ROOT / "src"), os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


def _await_ready(
    child: subprocess.Popen[bytes], command: Sequence[str], url: Callable[[], str | None], status: int, log: Path
) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not ((known := url()) and _answers(known, status)):
        if child.poll() is not None:
            raise BenchmarkFailed(f"{_name(command)} ended before it was ready: {_last_lines(log.read_text())}")
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{_name(command)} was not ready within {_READY_SECONDS:.0f} s.")
        time.sleep(0.02)


def _answers(url: str, status: int) -> bool:
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=2)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(child: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _name(command: Sequence[str]) -> str:
    return command[2] if command[1] == "-m" else Path(command[0]).name


def _last_lines(text: str, count: int = 8) -> str:
    return " | ".join(text.strip().splitlines()[-count:]) or "it said nothing"
