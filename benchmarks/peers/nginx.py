"""nginx: the fake upstream, which costs next to nothing, and the bare reverse proxy that is the limit.

Configurations are pure text; ``running`` starts one. Nothing is measured here.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.children import BenchmarkFailed, Cores, free_port, server
from benchmarks.targets import Target
from benchmarks.traffic import Shape, completion, stream_events

_MAIN: Final = """\
daemon off;
{user}worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}}}
"""

# A file is served to GET only: a POST is refused with 405, and the refusal's page is the file. What is added after a
# stream is nothing, but takes the length away: it is sent in a chunk, as streams are.
_UPSTREAM: Final = """\
    open_file_cache max=16 inactive=600s;
    tcp_nopush on;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /health {{ return 200 "ok"; }}
        location / {{
            root {folder};
            default_type {type};
            error_page 405 =200 /answer;
            try_files /answer =404;
        }}
        location = /answer {{
            root {folder};
            default_type {type};
            addition_types text/event-stream;
            add_after_body /nothing;
        }}
        location = /nothing {{ internal; return 200 ""; }}
    }}
"""

_PROXY: Final = """\
    upstream fixed {{
        server {upstream};
        keepalive 512;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /health {{ return 200 "ok"; }}
        location / {{
            proxy_pass http://fixed;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering {buffering};
        }}
    }}
"""


def upstream_config(folder: Path, port: int, shape: Shape) -> str:
    """Return the configuration of a fake upstream that answers every POST with the file ``answer``."""
    kind = "application/json" if shape == "plain" else "text/event-stream"
    return _whole(folder, _UPSTREAM.format(port=port, folder=folder, type=kind))


def proxy_config(folder: Path, port: int, upstream: str, shape: Shape) -> str:
    """Return the configuration of a reverse proxy that keeps its connections; events are passed on as they come."""
    buffering = "on" if shape == "plain" else "off"
    return _whole(folder, _PROXY.format(port=port, upstream=upstream.removeprefix("http://"), buffering=buffering))


def answer(shape: Shape) -> bytes:
    """Return the body that the fake upstream answers."""
    return completion() if shape == "plain" else b"".join(stream_events())


@contextmanager
def upstream(folder: Path, shape: Shape, *, core: Cores) -> Iterator[Target]:
    """Start a fake upstream that answers at once."""
    folder, port = _own(folder, "upstream"), free_port()
    (folder / "answer").write_bytes(answer(shape))
    with running(upstream_config(folder, port, shape), folder, port, core=core) as target:
        yield target


@contextmanager
def proxy(folder: Path, upstream: Target, shape: Shape, *, core: Cores) -> Iterator[Target]:
    """Start the bare reverse proxy."""
    folder, port = _own(folder, "nginx"), free_port()
    with running(proxy_config(folder, port, upstream.url, shape), folder, port, core=core) as target:
        yield target


@contextmanager
def running(config: str, folder: Path, port: int, *, core: Cores) -> Iterator[Target]:
    """Run nginx with a configuration that listens on ``port`` and answers ``/health``."""
    file, url = folder / "nginx.conf", f"http://127.0.0.1:{port}"
    file.write_text(config)
    command = [needed("nginx"), "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]
    with server(command, url=f"{url}/health", core=core, log=folder / "output.log") as pid:
        yield Target(name=folder.name.partition("-")[0], url=url, pid=pid)


_PACKAGES: Final = {"nginx": "nginx-light", "wrk": "wrk", "node": "nodejs", "npm": "npm"}


def found(program: str) -> str | None:
    """Return where a program is; Debian keeps servers where users do not look."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


def needed(program: str) -> str:
    """Return where a program is.

    Raises:
        BenchmarkFailed: it is not here; the message says what to install.
    """
    path = found(program)
    if path is None:
        raise BenchmarkFailed(f"There is no {program}. On Debian: apt-get install {_PACKAGES[program]}")
    return path


def version_of(program: str, *arguments: str) -> str:
    """Return the first line that a program says of its version, or ``absent``."""
    path = found(program)
    if path is None:
        return "absent"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout + done.stderr).strip().partition("\n")[0] or "unknown"


def _whole(folder: Path, http: str) -> str:
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.getuid() == 0 else ""
    return _MAIN.format(folder=folder, http=http, user=user)


def _own(folder: Path, name: str) -> Path:
    """Make a folder for one more nginx of this name."""
    count = len(list(folder.glob(f"{name}-*")))
    own = folder / f"{name}-{count}"
    own.mkdir()
    return own
