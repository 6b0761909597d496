"""``flatfee policy``: what a configuration's policy decides, before anybody depends on it. No gateway is needed."""

from __future__ import annotations

import typer

from flatfee.cli.policy.replay import replay
from flatfee.cli.policy.test import run_cases

policy = typer.Typer(
    name="policy", help="What a configuration decides, before anybody depends on it.", no_args_is_help=True
)
policy.command()(replay)
policy.command("test")(run_cases)
