"""A span for each completion, from its first try to its answer or the end of its stream.

Only where the application traces: OpenTelemetry is never imported here before the application has done so and
has set a tracer provider. What a span tells is in ``spans``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatfee.client.errand import Errand
from flatfee.client.raw import RawResponse
from flatfee.client.stream import StreamState
from flatfee.errors import APIError
from flatfee.receipt import Receipt
from flatfee.types.chat import ChatCompletion
from flatfee.version import __version__
from flatfee.wire import Header

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer


@dataclass(slots=True)
class _Trace:
    """The span of one call, and what gives its caller's context back."""

    span: Span
    token: Token[Context]
    failed_tries: int = 0


class TraceListener:
    """Keeps the span of each completion."""

    def began(self, errand: Errand[Any]) -> None:
        """Start the span, and let everything that the call does belong to it."""
        if not errand.call.metered or "opentelemetry.trace" not in sys.modules:
            return
        tracer = _tracer()
        if tracer is not None:
            errand.notes[self] = _started(tracer, errand)

    def tried(self, errand: Errand[Any], error: APIError) -> None:  # noqa: ARG002 - as listeners have it
        """Count a try that failed."""
        if (trace := self._of(errand)) is not None:
            trace.failed_tries += 1

    def answered(self, errand: Errand[Any], answer: object, headers: Mapping[str, str]) -> None:  # noqa: ARG002 - as above
        """Tell what answered, and end the span."""
        if (trace := self._of(errand)) is not None:
            _leave(trace)
            told = answer.parse() if isinstance(answer, RawResponse) else answer
            _end(trace, tries=trace.failed_tries + 1, answer=told)

    def handed(self, errand: Errand[Any], headers: Mapping[str, str]) -> None:
        """Tell what the headers of an answer tell, and end the span: the caller reads the rest."""
        if (trace := self._of(errand)) is not None:
            _leave(trace)
            _end(trace, tries=trace.failed_tries + 1, answer=headers)

    def failed(self, errand: Errand[Any], error: BaseException) -> None:
        """Tell what went wrong, and end the span."""
        if (trace := self._of(errand)) is not None:
            _leave(trace)
            _end(trace, tries=trace.failed_tries, error=error)

    def opened(self, errand: Errand[Any], state: StreamState) -> None:  # noqa: ARG002 - as above
        """Give the caller's context back, while the span goes on."""
        if (trace := self._of(errand)) is not None:
            _leave(trace)

    def ended(self, errand: Errand[Any], state: StreamState) -> None:
        """Tell what the stream came to, and end the span. To leave a stream early is no failure."""
        if (trace := self._of(errand)) is not None:
            error = state.failure if state.ending == "failed" else None
            _end(trace, tries=trace.failed_tries + 1, answer=state, error=error)

    def _of(self, errand: Errand[Any]) -> _Trace | None:
        found: _Trace | None = errand.notes.get(self)
        return found


def _tracer() -> Tracer | None:
    """Return a tracer if the application has set a provider."""
    from opentelemetry import trace

    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return trace.get_tracer("flatfee", __version__)


def _started(tracer: Tracer, errand: Errand[Any]) -> _Trace:
    from opentelemetry import context, propagate, trace

    from flatfee.client.watching import spans

    attributes = spans.asked(errand.call.body) | spans.where(errand.config.base_url)
    workflow = errand.sent(Header.WORKFLOW)
    if workflow is not None:
        attributes["flatfee.workflow"] = workflow
    name = f"chat {attributes.get('gen_ai.request.model', '')}".rstrip()
    span = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
    inside = trace.set_span_in_context(span)
    headers: dict[str, str] = {}
    propagate.inject(headers, inside)
    errand.send_along(headers)
    return _Trace(span, context.attach(inside))


def _leave(trace: _Trace) -> None:
    from opentelemetry import context

    context.detach(trace.token)


def _end(trace: _Trace, *, tries: int, answer: object = None, error: BaseException | None = None) -> None:
    from opentelemetry.trace import Status, StatusCode

    from flatfee.client.watching import spans

    if trace.span.is_recording():
        told = spans.completion(answer) if isinstance(answer, ChatCompletion) else {}
        told |= spans.stream(answer) if isinstance(answer, StreamState) else {}
        told |= spans.receipt(Receipt.of(error if answer is None else answer)) | {"flatfee.tries": tries}
        trace.span.set_attributes(told | (spans.failure(error) if error is not None else {}))
        if error is not None:
            trace.span.set_status(Status(StatusCode.ERROR))
    trace.span.end()
