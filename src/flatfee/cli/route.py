"""``flatfee route``: which way a request would take, and why: as a gateway tells it, or as a file says."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from flatfee.cli.asking import (
    BaseUrlOption,
    MaxTokensOption,
    TaskOption,
    WorkflowOption,
    failures_told,
    gateway,
    messages,
    print_json,
    read_prompt,
)
from flatfee.cli.show_plan import print_plan
from flatfee.cli.supposed import (
    AccountOption,
    AtOption,
    BillingOption,
    ContinuationUsedOption,
    DownOption,
    LeftOption,
    PlanOption,
    ProjectOption,
    ToolLoopOption,
    UsedOption,
)
from flatfee.errors import ConfigurationError
from flatfee.types import RoutePlan
from flatfee.wire import OnExhausted

PromptArgument = Annotated[str | None, typer.Argument(help="What to ask; '-' reads it from standard input. Or --body.")]
BodyOption = Annotated[
    Path | None, typer.Option("--body", help="A file with the whole body of a request as JSON; '-': standard input.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="auto, premium, economy, or an alias. Default: the body's, else auto.")
]
OnExhaustedOption = Annotated[
    OnExhausted | None,
    typer.Option("--on-exhausted", help="Go on without premium once fair-use is spent, or fail."),
]
ConfigOption = Annotated[
    Path | None, typer.Option(help="Ask this configuration file instead of a gateway; no key is needed.")
]


def route(  # noqa: PLR0913, PLR0917 - a command's parameters are its options
    prompt: PromptArgument = None,
    body: BodyOption = None,
    model: ModelOption = None,
    task: TaskOption = None,
    workflow: WorkflowOption = None,
    on_exhausted: OnExhaustedOption = None,
    max_tokens: MaxTokensOption = None,
    base_url: BaseUrlOption = None,
    config: ConfigOption = None,
    account: AccountOption = None,
    project: ProjectOption = None,
    plan: PlanOption = None,
    billing: BillingOption = None,
    used: UsedOption = None,
    left: LeftOption = None,
    continuation_used: ContinuationUsedOption = None,
    down: DownOption = None,
    at: AtOption = None,
    tool_loop_route: ToolLoopOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the answer as JSON.")] = False,
) -> None:
    """Tell which lane and route a request would take, and why. No provider is asked, nothing is charged.

    A gateway is asked, with the key in FLATFEE_API_KEY; or with --config a file is, for an account in any state.
    Exits with 1 if the request would be refused, with 2 if an argument, the file or the environment is wrong.
    """
    stands = {"name": account, "project": project, "plan": plan, "billing": billing, "used": used, "left": left}
    stands["continuation_used"] = continuation_used
    supposed = {"account": _given(stands), "at": at, "down": down or (), "tool_loop_route": tool_loop_route}
    _check(config, base_url, supposed)
    hints = _given({"task": task, "workflow": workflow, "on_exhausted": on_exhausted})
    with failures_told(as_json=as_json):
        asked: dict[str, Any] = (
            {"model": "auto"} | _body(prompt, body) | _given({"model": model, "max_completion_tokens": max_tokens})
        )
        if config is None:
            with gateway(base_url, as_json=as_json) as client:
                told = client.route(messages=asked["messages"], model=asked["model"], extra_body=asked, **hints)
        else:
            from flatfee.cli.offline import check_loop, plan_offline

            if body is not None and tool_loop_route is not None:
                check_loop(asked["messages"], workflow)
            told = plan_offline(config, asked, hints, supposed)
    _show(told, as_json=as_json)


def _show(told: RoutePlan, *, as_json: bool) -> None:
    if as_json:
        print_json(told.to_dict(mode="json"))
    else:
        print_plan(Console(), told)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _check(config: Path | None, base_url: str | None, supposed: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    if config is None and any(supposed.values()):
        _end("A gateway knows its accounts, its routes and the time; what is supposed of them goes with --config only.")
    if config is not None and base_url is not None:
        _end("--config asks a file and --base-url a gateway; keep one of them.")


def _end(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _body(prompt: str | None, path: Path | None) -> dict[str, Any]:
    """Return the body that is asked about.

    Raises:
        ConfigurationError: there is none, or two, or it is no JSON object with messages.
    """
    if (prompt is None) is (path is None):
        raise ConfigurationError("Say what to ask, as a prompt or with --body; one of them.")
    if path is None:
        return {"messages": messages(read_prompt(prompt or ""))}
    try:
        found = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"--body {path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
        raise ConfigurationError(f"--body {path} is no request: it needs an object with a list of messages.")
    return found
