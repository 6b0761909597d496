"""How each kind of fault is played, and the table of them. Pure: from a fault and what was asked to steps.

The form of a fault is in ``faults``, how answers are struck in ``struck``, how providers word errors in ``refusing``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from flatfee.testing.faults import refusing
from flatfee.testing.faults.manners import BROKE_OFF, MANNERS, body_in
from flatfee.testing.faults.struck import (
    COMMENT,
    GARBAGE,
    begun,
    begun_within,
    body_of,
    events_of,
    first_finish,
    one_choice,
    payload_of,
    spread,
    with_finish,
    without_finish,
)
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.played import Failure, Pause, Piece, Played
from flatfee.wire import AttemptOutcome

if TYPE_CHECKING:
    from flatfee.testing.faults.fault import Fault

PAGE: Final = b"<!DOCTYPE html><html><body><h1>The service is being updated.</h1></body></html>"

_STREAM: Final = {"content-type": "text/event-stream"}
_JSON: Final = {"content-type": "application/json"}
_KEEP_ALIVE_SECONDS: Final = 10.0
_KEEP_ALIVES: Final = 400
"""More than an hour of them: longer than any route waits."""
_BLOCK: Final = 65_536
_NOW: Final = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""What a provider's clock says where it names a date; it has one of its own, and tells it."""


def _unreachable(fault: Fault, _: Asked) -> Played:
    message = "cannot be trusted" if fault.why == "untrusted" else "cannot be reached"
    return Played(before=(Failure(AttemptOutcome.UNAVAILABLE, message),))


def _connect_timeout(fault: Fault, _: Asked) -> Played:
    failure = Failure(AttemptOutcome.TIMEOUT, "was silent while connecting")
    return Played(before=(Pause(fault.seconds), failure))


def _reset(fault: Fault, _: Asked) -> Played:
    failure = Failure(AttemptOutcome.ERROR, "broke off: the connection ended", stale=fault.stale)
    return Played(before=(failure,))


def _status(fault: Fault, _: Asked) -> Played:
    told = refusing.trouble(fault.status_code, code=fault.code, message=fault.message)
    said = refusing.body(fault.shape, told) if fault.status_code >= 400 else b""
    pieces: tuple[Piece, ...] = (said,)
    if fault.then == "silence":
        pieces = (said[:10], Pause())
    elif fault.then == "more and more":
        pieces = (*[b"x" * _BLOCK] * 3, Pause())
    return Played(status=fault.status_code, headers={**_JSON, **_asks_to_wait(fault)}, pieces=pieces)


def _asks_to_wait(fault: Fault) -> Mapping[str, str]:
    wait = fault.retry_after
    if wait is None:
        return {}
    if isinstance(wait, str):
        return {"retry-after": wait}
    if fault.retry_after_as == "date":
        then = _NOW + timedelta(seconds=round(wait))
        return {"date": format_datetime(_NOW, usegmt=True), "retry-after": format_datetime(then, usegmt=True)}
    if fault.retry_after_as == "milliseconds":
        return {"retry-after-ms": f"{1000 * wait:g}"}
    return {"retry-after": f"{wait:g}"}


def _body(fault: Fault, asked: Asked) -> Played:
    headers = _STREAM if asked.stream else _JSON
    content = fault.content
    if content == "page":
        return Played(status=fault.status_code, headers={"content-type": "text/html"}, pieces=(PAGE,))
    if content == "other shape":
        pieces = (body_of(asked, fault.of),) if asked.stream else tuple(events_of(_streaming(asked), fault.of))
        return Played(status=fault.status_code, headers=_JSON if asked.stream else _STREAM, pieces=pieces)
    plain: Mapping[str, bytes] = {
        "empty": b"",
        "not JSON": b"data: hello\n\n" if asked.stream else b"hello",
        "no choices": b'{"id": "chatcmpl-1", "choices": []}',
        "half": body_of(asked, fault.of)[:100],
    }
    return Played(status=fault.status_code, headers=headers, pieces=(plain[content],))


def _streaming(asked: Asked) -> Asked:
    """Return what was asked, as if for a stream that tells its usage."""
    body = {**json.loads(asked.upstream), "stream_options": {"include_usage": True}}
    return replace(asked, upstream=json.dumps(body).encode())


def _encoded(fault: Fault, asked: Asked) -> Played:
    if fault.encoding == "unknown":
        failure = Failure(AttemptOutcome.ERROR, "answered in an encoding that was not asked for")
        return Played(headers={"content-encoding": "x-unknown"}, pieces=(failure,))
    headers = {**(_STREAM if asked.stream else _JSON), "content-encoding": "gzip"}
    return Played(headers=headers, pieces=(*_halfway(fault, asked), Failure(AttemptOutcome.ERROR, "broke off: error")))


def _silent(fault: Fault, asked: Asked) -> Played:
    if fault.after is None and not fault.keep_alives:
        return Played(before=(Pause(),))
    alive: list[Piece] = []
    if fault.keep_alives:
        comment = COMMENT if asked.stream else b" "
        alive = [comment, Pause(_KEEP_ALIVE_SECONDS)] * _KEEP_ALIVES
    return _answer(asked, (*_halfway(fault, asked, unless_told=0), *alive, Pause()))


def _slow(fault: Fault, asked: Asked) -> Played:
    if asked.stream:
        return _answer(asked, spread(events_of(asked, fault.of), Pause(fault.seconds)))
    whole = body_of(asked, fault.of)
    return _answer(asked, (Pause(fault.seconds * max(1, whole.count(b" ") // 2)), whole))


def _cuts(fault: Fault, asked: Asked) -> Played:
    if fault.where == "between events" or not asked.stream:
        return _answer(asked, (*_halfway(fault, asked), BROKE_OFF))
    return _answer(asked, (*_within(fault, events_of(asked, fault.of)), BROKE_OFF))


def _within(fault: Fault, whole: list[bytes]) -> list[bytes]:
    if fault.where == "choice":
        return one_choice(whole)
    return begun_within(whole, _half(whole) if fault.after is None else fault.after, fault.where)


def _ends(fault: Fault, asked: Asked) -> Played:
    if not asked.stream:
        return _answer(asked, (body_of(asked, fault.of)[:100],))
    whole = events_of(asked, fault.of)
    if fault.where != "between events":
        return _answer(asked, tuple(_within(fault, whole)))
    said = without_finish(whole) if fault.after is None else begun(whole, fault.after)
    trailer = [part for part in whole if not payload_of(part).get("choices")] if fault.done else []
    return _answer(asked, (*said, *trailer))


def _error_event(fault: Fault, asked: Asked) -> Played:
    status = fault.status_code if "status_code" in fault.model_fields_set else 500
    told = refusing.trouble(status, code=fault.code, message=fault.message)
    if not asked.stream:
        return _answer(asked, (refusing.body(fault.shape, told),))
    return _answer(asked, (*_halfway(fault, asked, unless_told=2), refusing.event(fault.shape, told)))


def _broken_events(fault: Fault, asked: Asked) -> Played:
    if not asked.stream:
        return _answer(asked, (body_of(asked, fault.of),))
    whole = events_of(asked, fault.of)
    start = begun(whole, _half(whole) if fault.after is None else fault.after)
    return _answer(asked, (*start, *[GARBAGE] * fault.count, *whole[len(start) :]))


def _large_event(fault: Fault, asked: Asked) -> Played:
    text = "x" * fault.size
    if not asked.stream:
        data = body_of(asked, text)
    else:
        whole = events_of(asked, "x")
        data = b"".join(whole).replace(b'"content":"x"', b'"content":"' + text.encode() + b'"')
    return _answer(asked, tuple(data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK)))


def _finishes(fault: Fault, asked: Asked) -> Played:
    if asked.stream:
        return _answer(asked, tuple(with_finish(events_of(asked, fault.of), fault.reason)))
    whole = body_of(asked, fault.of)
    return _answer(asked, (whole.replace(b'"finish_reason":"stop"', f'"finish_reason":"{fault.reason}"'.encode()),))


def _odd(fault: Fault, asked: Asked) -> Played:
    manner = MANNERS[fault.manner]
    if asked.stream:
        return _answer(asked, tuple(manner.events(events_of(asked, fault.of))))
    return _answer(asked, (body_in(manner, body_of(asked, fault.of)),))


def _answer(asked: Asked, pieces: tuple[Piece, ...]) -> Played:
    return Played(headers=_STREAM if asked.stream else _JSON, pieces=pieces)


def _halfway(fault: Fault, asked: Asked, unless_told: int | None = None) -> tuple[bytes, ...]:
    """Return what is said before a fault strikes: half of the answer, unless ``after`` says otherwise."""
    after = unless_told if fault.after is None else fault.after
    if asked.stream:
        whole = events_of(asked, fault.of)
        return tuple(begun(whole, _half(whole) if after is None else after))
    whole_body = body_of(asked, fault.of)
    return () if after == 0 else (whole_body[: len(whole_body) // 2],)


def _half(whole: list[bytes]) -> int:
    return max(2, first_finish(whole) // 2)


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of fault: what a provider does, and how it is played."""

    says: str
    play: Callable[[Fault, Asked], Played]


FAULTS: Final[Mapping[str, Row]] = {
    "unreachable": Row("refuses the connection, has no address, or cannot be trusted", _unreachable),
    "connect_timeout": Row("does not take the connection in time", _connect_timeout),
    "reset": Row("breaks the connection before a byte of the answer", _reset),
    "status": Row("answers with another status than 200, and an error", _status),
    "body": Row("answers with a body that is none", _body),
    "encoded": Row("compresses its answer so that nobody can read it", _encoded),
    "silent": Row("falls silent, at once or in mid-answer", _silent),
    "slow": Row("waits before every event", _slow),
    "cuts": Row("breaks the connection in mid-answer", _cuts),
    "ends": Row("ends its answer as if all were well, without a finish reason", _ends),
    "error_event": Row("sends an error in place of its answer, or in the middle of it", _error_event),
    "broken_events": Row("sends events that are not JSON within its answer", _broken_events),
    "large_event": Row("says so many bytes in one event", _large_event),
    "finishes": Row("ends its answer for another reason", _finishes),
    "odd": Row("gives a whole answer in an odd manner", _odd),
}
"""Kind → what it is. A kind is the name of the method of ``Fault`` that makes it."""
