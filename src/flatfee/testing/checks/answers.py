"""What a client does with what it gets: whether streams are ended, and cut answers known as such."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flatfee.testing.checks.base import Found, Limits, Seen, Wrong, failure, seconds
from flatfee.testing.entry import Ending, Entry

_TELLING: Final = 20
"""Characters from which the beginning of a cut text is taken for it: a client may have got less than was sent."""


def open_stream(seen: Seen, limits: Limits) -> Found:
    """Streams are read to their end, or closed."""
    del limits
    for entry in seen.completions:
        if entry.stream and entry.ending == Ending.OPEN:
            doing = "is still open"
            if entry.unread_since is not None:
                doing += f", and nothing of it was read since {seconds(entry.unread_since)}"
            yield Wrong(
                f"The stream of {entry.name} {doing}, {entry.answer_size:,} bytes after it began. "
                "Read streams to their end, or close them: use `with`, or call close().",
                (entry,),
            )


def truncation(seen: Seen, limits: Limits) -> Found:
    """An answer that was cut is not taken for a whole one: not in the conversation, and no tool of it is run."""
    del limits
    whole = {entry.text.strip() for entry in seen.completions if entry.whole}
    ids = {call.id for entry in seen.completions if entry.whole for call in entry.answered.tool_calls}
    for cut in seen.completions:
        if not (cut.failed_midway and cut.answered.finish_reason is None):
            continue
        calls = {call.id: call.name for call in cut.answered.tool_calls if call.id and call.id not in ids}
        for then in seen.completions:
            if then.arrived <= cut.arrived or then.key != cut.key:
                continue
            yield from _taken_for_whole(cut, then, calls, whole)


def _taken_for_whole(cut: Entry, then: Entry, calls: Mapping[str, str], whole: set[str]) -> Found:
    earlier = then.messages[:-1]  # an answer that stands last is to be continued
    if any(_is_cut_text(message, cut.text.strip(), whole) for message in earlier):
        yield Wrong(
            f"{then.name} went on with the text of {cut.name}, which ended in {failure(cut)} after "
            f"{len(cut.text):,} characters. An answer without finish_reason is not whole: ask again, or give up.",
            (cut, then),
        )
    run = [name for call_id, name in calls.items() if call_id in _results(then)]
    if run:
        yield Wrong(
            f"{then.name} has the result of the tool {', '.join(run)}, whose call in {cut.name} ended in "
            f"{failure(cut)}: its arguments may be cut. Run no tool before finish_reason has come.",
            (cut, then),
        )


def _is_cut_text(message: Mapping[str, Any], cut: str, whole: set[str]) -> bool:
    said = message.get("content")
    if message.get("role") != "assistant" or not isinstance(said, str) or not said.strip():
        return False
    said = said.strip()
    return said not in whole and (said == cut or (len(said) >= _TELLING and cut.startswith(said)))


def _results(entry: Entry) -> Iterator[object]:
    return (message.get("tool_call_id") for message in entry.messages if message.get("role") == "tool")
