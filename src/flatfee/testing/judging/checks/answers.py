"""What a client does with what it gets: whether streams are ended, and cut answers known as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flatfee.testing.judging.checks.base import Found, Limits, Seen, Wrong, failure, names, seconds
from flatfee.testing.judging.entry import Ending, Entry

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
    used = _Used(seen.completions)
    for cut in seen.completions:
        if not cut.failed_midway or cut.answered.finish_reason is not None:
            continue
        text = used.after(cut, used.texts(cut.text.strip()))
        if text:
            yield Wrong(
                f"{names(text)} went on with the text of {cut.name}, which ended in {failure(cut)} after "
                f"{len(cut.text):,} characters. An answer without finish_reason is not whole: ask again, or give up.",
                (cut, *text),
            )
        for call in cut.answered.tool_calls:
            results = used.after(cut, used.results(call.id))
            if results:
                yield Wrong(
                    f"{names(results)} had the result of the tool {call.name}, whose call in {cut.name} ended in "
                    f"{failure(cut)}: its arguments may be cut. Run no tool before finish_reason has come.",
                    (cut, *results),
                )


class _Used:
    """What conversations went on with: texts of the model by their beginnings, and results by the ids of calls.

    An answer that stands last in a conversation is to be continued, and does not count.
    """

    def __init__(self, completions: Sequence[Entry]) -> None:
        whole = [entry for entry in completions if entry.whole]
        self._whole = {entry.text.strip() for entry in whole}
        self._ids = {call.id for entry in whole for call in entry.answered.tool_calls} | {""}
        self._texts: dict[str, list[tuple[str, Entry]]] = {}
        self._results: dict[object, list[Entry]] = {}
        for entry in completions:
            for message in entry.messages[:-1]:
                if (said := _said(message)) and said not in self._whole:
                    self._texts.setdefault(said[:_TELLING], []).append((said, entry))
            for message in entry.messages:
                if message.get("role") == "tool":
                    self._results.setdefault(message.get("tool_call_id"), []).append(entry)

    def texts(self, cut: str) -> list[Entry]:
        """Return the requests that have a cut text, or so much of it that nothing else can be meant."""
        alike = self._texts.get(cut[:_TELLING], ()) if cut else ()
        return [entry for said, entry in alike if said == cut or (len(said) >= _TELLING and cut.startswith(said))]

    def results(self, call_id: str) -> list[Entry]:
        """Return the requests that have the result of a call, unless it came whole from elsewhere."""
        return [] if call_id in self._ids else self._results.get(call_id, [])

    @staticmethod
    def after(cut: Entry, entries: Sequence[Entry]) -> list[Entry]:
        """Return those of the same key that came later, each once."""
        return [entry for entry in dict.fromkeys(entries) if entry.arrived > cut.arrived and entry.key == cut.key]


def _said(message: Mapping[str, Any]) -> str:
    said = message.get("content")
    return said.strip() if message.get("role") == "assistant" and isinstance(said, str) else ""
