"""What a client does with workflows: whether it gives their slots back, and keeps their names."""

from __future__ import annotations

from flatfee.testing.judging.checks.base import Found, Limits, Seen, Wrong, failure
from flatfee.testing.judging.entry import Entry
from flatfee.wire import ErrorCode


def slots(seen: Seen, limits: Limits) -> Found:
    """Workflows that were named are released; judged if the client releases any, or with ``slots=True``."""
    released = {name: entry.arrived for entry in seen.entries if (name := entry.released) is not None}
    if limits.slots is False or (limits.slots is None and not released):
        return
    used = {entry.workflow: entry for entry in seen.completions if entry.workflow and _held(entry)}
    for workflow, last in used.items():
        free = seen.active is not None and workflow not in seen.active
        if not free and released.get(workflow, -1.0) < last.arrived:
            yield Wrong(
                f"Workflow {workflow!r}, last used by {last.name}, was not released and keeps its slot until it is "
                f"idle for long enough. Release it when the run ends: DELETE /v1/workflows/{workflow}, "
                "or by `with client.workflow()`.",
                (last,),
            )


def _held(entry: Entry) -> bool:
    """Tell whether a request was let in, and so took its workflow's slot."""
    return entry.status is None or entry.status == 200 or bool(entry.tries)


def same_workflow(seen: Seen, limits: Limits) -> Found:
    """With ``same_workflow``: what met the workflow limit is asked again under the same id."""
    if not limits.same_workflow:
        return
    refused: dict[tuple[object, ...], Entry] = {}
    for entry in seen.completions:
        likeness = (entry.era, entry.key, entry.question)
        first = refused.get(likeness)
        if first is not None and entry.workflow not in {None, first.workflow}:
            yield Wrong(
                f"{entry.name} asked again as workflow {entry.workflow!r} what {first.name} had asked as "
                f"{first.workflow!r}, which got {failure(first)}. Keep one id for a run: a new one has to wait, too.",
                (first, entry),
            )
        if entry.workflow is not None and entry.code == ErrorCode.WORKFLOW_LIMIT:
            refused.setdefault(likeness, entry)
