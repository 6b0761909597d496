"""The command: gateway, run and stage brought together, and what was seen, in plain words."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from flatfee.cli.demo.script import RUN, Outcome, play
from flatfee.cli.demo.stage import Stage
from flatfee.cli.invoked import command
from flatfee.cli.show import lane_text, one_line
from flatfee.client.sync import Client
from flatfee.errors import FallbackExhausted, FlatfeeError
from flatfee.wire import Lane

PACE: Final = 0.35

_MEANINGS: Final = {
    Lane.PREMIUM: "a premium model answered, and fair-use paid",
    Lane.BUDGET: "the task was small, so an economy model did it; not charged",
    Lane.CONTINUATION: "fair-use was spent, so an economy model kept the run going",
    Lane.FALLBACK: "the first provider failed, so the next one answered",
}


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Without pauses between the steps.")] = False,
) -> None:
    """Watch an agent run walk through the lanes.

    A real gateway runs meanwhile, with simulated providers: no key, no network. Ends by itself
    within 20 seconds; exits with 1 if a lane that it promises did not occur.
    """
    from flatfee.cli.demo.gateway import demo_text

    perform(demo_text(), pace=0.0 if fast else PACE)


def perform(configuration: str, *, pace: float) -> None:
    """Play the run on a gateway with this configuration, and check that it showed what it promises."""
    from flatfee.cli.demo.gateway import GatewayNotStarted, running_gateway

    console = Console()
    try:
        with without_proxy(), running_gateway(configuration) as gateway:
            _say(console, f"A gateway runs on {gateway.url}; an agent asks it for the model 'auto'.\n")
            limit = gateway.settings.plans[0].fair_use
            client = Client(api_key=gateway.key, base_url=gateway.url)
            with client, Stage(console, limit, live=console.is_interactive and console.file.isatty()) as stage:
                outcome = play(RUN, client, stage, fail=gateway.fail, pace=pace)
    except (FlatfeeError, GatewayNotStarted, TimeoutError) as error:
        typer.echo(one_line(f"The demo broke off: {type(error).__name__}: {error}"), err=True)
        raise typer.Exit(1) from error
    if missing := outcome.missing():
        typer.echo(
            f"The demo did not show {', '.join(missing)}. That is a mistake of the demo or the gateway.", err=True
        )
        raise typer.Exit(1)
    _sum_up(console, outcome)


def _sum_up(console: Console, outcome: Outcome) -> None:
    _say(console)
    for lane, meaning in _MEANINGS.items():
        name = lane_text(lane)
        name.pad_right(14 - len(name))
        _say(console, name, meaning)
    tries = len(outcome.exhausted.attempts) if outcome.exhausted else 0
    failure = Text(FallbackExhausted.__name__, style="bold")
    _say(console, "\nThen every provider failed: the client raised ", failure, f" after {tries} attempts.")
    _say(console, "Nothing above was acted: each row is a receipt that the gateway sent.\n")
    serve, chat = (Text(f"{command()} {name}", style="bold") for name in ("serve", "chat"))
    _say(console, "Next: ", serve, " runs a gateway for your own client; ", chat, " asks it.")


def _say(console: Console, *parts: str | Text) -> None:
    console.print(Text.assemble(*parts), soft_wrap=not console.is_terminal)


@contextmanager
def without_proxy() -> Generator[None]:
    """Keep the client on this machine, whatever proxy the environment names."""
    before = os.environ.get("no_proxy")
    os.environ["no_proxy"] = "127.0.0.1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
