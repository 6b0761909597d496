"""Failures by name: what to catch, what each tells, and what to do about it.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py. Asks for things that go wrong on
purpose; with a gateway where nothing goes wrong it says that. The last two make real calls, the
one a short economy call for each slot of the plan: with real providers they cost money.
"""

from collections.abc import Callable

from flatfee import (
    APIConnectionError,
    APIStatusError,
    BillingError,
    Client,
    ConcurrencyLimitError,
    FallbackExhausted,
)


def outcome(call: Callable[[], str]) -> str:
    """Return what a call returns, or a line that says what went wrong and what can be done."""
    try:
        return call()
    except BillingError as error:
        # 402: fair-use does not cover it and it may not continue on economy, or billing is inactive.
        return f"BillingError ({error.code}): {error.message}"
    except ConcurrencyLimitError as error:
        # 429: too many agent runs at once.
        return f"ConcurrencyLimitError: wait {error.retry_after} s, or release a workflow"
    except FallbackExhausted as error:
        # 503: every route failed. The gateway has tried them all, so trying again at once is no use.
        tried = ", ".join(f"{attempt.route} ({attempt.outcome})" for attempt in error.attempts)
        return f"FallbackExhausted: tried {tried}"
    except APIStatusError as error:
        # Every other answer of the gateway; the message names the bad value and the cure.
        return f"{type(error).__name__} ({error.code}): {error.message} [{error.request_id}]"
    except APIConnectionError as error:
        return f"{type(error).__name__}: {error.message}"


def ask(client: Client, model: str = "auto", workflow: str | None = None) -> str:
    """Return an answer."""
    messages = [{"role": "user", "content": "Name three colours."}]
    completion = client.chat.completions.create(model=model, workflow=workflow, messages=messages)
    return completion.choices[0].message.content or ""


def plan_more_than_is_left(client: Client) -> str:
    """Ask which way 128 long answers would take that may not leave premium. A dry run: it costs nothing."""
    messages = [{"role": "user", "content": "Name three colours."}]
    plan = client.route(model="premium", on_exhausted="fail", n=128, max_completion_tokens=1_000_000, messages=messages)
    units = plan.estimate.units if plan.estimate else None
    return f"it fits: {units} units would be held back on the {plan.lane} lane"


def exceed_the_workflow_limit(client: Client) -> str:
    """Begin one more agent run than the plan allows at once, and release them all.

    The calls that are admitted are real ones, and paid for.
    """
    slots = client.usage.retrieve().workflows
    limit = (slots.limit if slots else None) or 0
    runs = [f"errors-{number}" for number in range(limit + 1)]
    try:
        return [ask(client, model="economy", workflow=run) for run in runs][-1]
    finally:
        live = {workflow.id for workflow in client.workflows.list()}
        for run in live.intersection(runs):
            client.workflows.release(run)


def main() -> None:
    # Without retries every failure is seen at once; by default those that may pass are tried again.
    with Client(max_retries=0) as client:
        calls: dict[str, Callable[[], str]] = {
            "a model that does not exist": lambda: ask(client, model="gpt-9"),
            "more than is left of fair-use": lambda: plan_more_than_is_left(client),
            "too many agent runs at once": lambda: exceed_the_workflow_limit(client),
            "any model": lambda: ask(client),
        }
        for title, call in calls.items():
            print(f"{title}:\n  {outcome(call)}")


main()
