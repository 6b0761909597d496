"""``flatfee route``: which way a request would take, and why."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from flatfee.cli.asking import (
    BaseUrlOption,
    MaxTokensOption,
    ModelOption,
    PromptArgument,
    TaskOption,
    WorkflowOption,
    gateway,
    messages,
    params,
    print_json,
    read_prompt,
)
from flatfee.cli.show import print_plan


def route(
    prompt: PromptArgument,
    model: ModelOption = "auto",
    task: TaskOption = None,
    workflow: WorkflowOption = None,
    max_tokens: MaxTokensOption = None,
    base_url: BaseUrlOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the gateway's answer as JSON.")] = False,
) -> None:
    """Tell which lane and route a request would take, and why. No provider is asked, nothing is charged.

    The key is read from FLATFEE_API_KEY. Exits with 1 if the request would be refused, with 2 if an
    argument or the environment is wrong.
    """
    with gateway(base_url, as_json=as_json) as client:
        asked = messages(read_prompt(prompt))
        plan = client.route(messages=asked, model=model, **params(task, workflow, max_tokens))
    if as_json:
        print_json(plan.to_dict(mode="json"))
    else:
        print_plan(Console(), plan)
