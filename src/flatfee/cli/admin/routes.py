"""``flatfee routes``: how the routes of a running gateway do. Only its memory knows, so it must run to be asked."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final

import typer

from flatfee.cli.admin.client import Admin
from flatfee.cli.admin.reach import AddressOption, JsonOption, UrlOption, end, running
from flatfee.cli.admin.tables import ago, clear, show_list, show_one

routes = typer.Typer(name="routes", help="Routes of a running gateway, and how they do.", no_args_is_help=True)

WATCH_SECONDS: Final = 2.0

_COLUMNS: Final = {
    "route": "name",
    "tier": "tier",
    "worker": "worker",
    "circuit": "circuit",
    "ok/failed": "counts",
    "p50/p90\nms": "duration_ms",
    "first\ntoken": "first_token_ms",
    "last\nfailure": "last_failure",
}
_FIGURES: Final = ("tier", "worker", "counts", "duration_ms", "first_token_ms")
_TRIES: Final = {
    "ended": "at",
    "worker": "worker",
    "outcome": "outcome",
    "status": "status",
    "ms": "duration_ms",
    "first token ms": "first_token_ms",
}


@routes.command("list")
def list_routes(
    url: UrlOption = None,
    config: AddressOption = None,
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show every route: its circuit, and what its last 100 tries came to. A row for each worker that serves."""
    if watch and (as_json or not sys.stdout.isatty()):
        end("--watch draws on a terminal: leave it out for a pipe or --json.", 2)
    with running(url, config, as_json=as_json) as api:
        if watch:
            _watch(api, time.sleep)
        else:
            _show_table(api.get("/routes"), as_json=as_json)


@routes.command()
def show(
    name: Annotated[str, typer.Argument(help="The route's name.")],
    url: UrlOption = None,
    config: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a route's settings and health, and its last tries, newest first."""
    with running(url, config, as_json=as_json) as api:
        found = {route["name"]: route for route in api.get("/routes")["data"]}
        if name not in found:
            end(f"There is no route {name!r}; use one of: {', '.join(found)}.", 1)
        route = found[name]
    if as_json:
        show_one(route, as_json=True)
        return
    workers = route["workers"]
    told = {member: value for member, value in route.items() if member != "workers"}
    for worker in workers:
        shown = _without_tries(worker["health"]) if worker["answered"] else "no answer"
        told["health" if len(workers) == 1 else f"worker {worker['worker']}"] = shown
    show_one(told, as_json=False)
    tries = [
        {**tried, "worker": worker["worker"]}
        for worker in workers
        if worker["answered"]
        for tried in worker["health"]["recent"]
    ]
    if tries:
        typer.echo("")
        newest = sorted(tries, key=lambda tried: str(tried["at"]), reverse=True)
        show_list({"data": newest}, _columns(_TRIES, workers), as_json=False)


def _watch(api: Admin, pause: Callable[[float], None]) -> None:
    """Draw the table again and again; Ctrl-C or a gateway that is gone ends it."""
    with suppress(KeyboardInterrupt):
        while True:
            page = api.get("/routes")
            clear()
            _show_table(page, as_json=False)
            pause(WATCH_SECONDS)


def _show_table(page: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_list(page, {}, as_json=True)
        return
    data = page["data"]
    now = time.time()
    rows = [_row(route, worker, now) for route in data for worker in route["workers"]]
    columns = _columns(_COLUMNS, data[0]["workers"] if data else ())
    show_list({"data": rows}, columns, as_json=False, whole=_FIGURES)


def _columns(columns: Mapping[str, str], workers: Any) -> Mapping[str, str]:
    """Return the columns; which worker it is matters only where there are several."""
    return {heading: member for heading, member in columns.items() if member != "worker" or len(workers) > 1}


def _row(route: Mapping[str, Any], worker: Mapping[str, Any], now: float) -> dict[str, Any]:
    row = {"name": route["name"], "tier": route["tier"], "worker": worker["worker"]}
    if not worker["answered"]:
        return {**row, "circuit": "no answer"}
    from flatfee.server.health import FAILURES

    health = worker["health"]
    counts, last = health["outcomes"], health["last_failure"]
    return {
        **row,
        "circuit": _circuit(health),
        "counts": f"{counts.get('ok', 0)}/{sum(counts.get(outcome, 0) for outcome in FAILURES)}",
        "duration_ms": _latency(health["duration_ms"]),
        "first_token_ms": _latency(health["first_token_ms"]),
        "last_failure": f"{last['outcome']} {ago(last['at'], now)}" if last else None,
    }


def _circuit(health: Mapping[str, Any]) -> str:
    """Return the circuit as a word or two: a probe runs only where it is half open."""
    if health["opens_in"]:
        return f"{health['circuit']}, {math.ceil(health['opens_in'])} s"
    return "probing" if health["probing"] else str(health["circuit"]).replace("_", " ")


def _latency(latency: Mapping[str, int] | None) -> str | None:
    return f"{latency['p50']}/{latency['p90']}" if latency else None


def _without_tries(health: Mapping[str, Any]) -> dict[str, Any]:
    return {member: value for member, value in health.items() if member != "recent"}
