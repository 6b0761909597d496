"""What a provider's failure means: whether, and when, the same route may be tried again.

No attempt is made here and nothing is counted: the relay acts on what this says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from flatfee.server.answers.plain import read_refusal
from flatfee.server.faults import ProviderRefusal
from flatfee.server.providers.base import Upstream, read_error
from flatfee.server.settings import RouteSettings
from flatfee.wire import AttemptOutcome, retry_after

log = logging.getLogger("flatfee.server")

RETRY_AFTER_AT_MOST: Final = 5.0
"""A provider's Retry-After up to this long is waited for; a longer one sends us to the next route."""

SAME_ROUTE_PAUSE: Final = 0.25

RETRY_SAME_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_OVERLOADED: Final = frozenset({408, 498})
"""Below 500, and the provider's trouble all the same; 498 is Groq's for a tier without room
(https://console.groq.com/docs/errors)."""
_OPERATORS_FAULT: Final = frozenset({401, 402, 403, 404, 405, 407, 412})
"""Statuses that say something of the operator's account or settings, and nothing of the request; 412 is Fireworks'
for a suspended account (https://docs.fireworks.ai/guides/inference-error-codes)."""
_OPERATORS_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""429s of OpenAI, and 400s of Anthropic, that no waiting cures: the account has no money, or may spend no more."""
_FAILED_GENERATION: Final = frozenset({"tool_use_failed", "json_validate_failed"})
"""Groq's 400s for what its model said, not the caller: a call of a tool that is none, or no JSON
(https://console.groq.com/docs/tool-use, https://console.groq.com/docs/structured-outputs)."""
_MODEL_CANNOT: Final = frozenset({"unsupported_value", "unsupported_parameter"})
"""How OpenAI says that the model, or the service, does not take something: another may
(https://github.com/appatalks/eva-agent/issues/83). What a provider cannot translate is told so, too."""
_WRONG_KEY: Final = re.compile(
    r"(?:incorrect api key provided|api key (?:not (?:valid|found)|expired))\b", re.IGNORECASE
)
"""How a 400 begins that is a 401 elsewhere: xAI's (https://docs.x.ai/developers/debugging) and Gemini's
(https://ai.google.dev/gemini-api/docs/generate-content/api-errors,
https://github.com/continuedev/continue/issues/11310)."""
_WRONG_PLACE: Final = re.compile(r"user location is not supported\b", re.IGNORECASE)
"""How a 400 of Gemini begins that says where the gateway is, and nothing of the request
(https://discuss.ai.google.dev/t/gemini-api-location-support/454)."""
_CONTEXT_OVERFLOW: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""How providers say that the context is too large: OpenAI in ``code``, llama.cpp's server in ``type``."""
_MAY_OVERFLOW: Final = frozenset({400, 403, 413, 422})
"""Statuses under which providers say so; Together's is 403 (https://docs.together.ai/docs/error-codes)."""
_OVERFLOW_WORDS: Final = re.compile(
    r"\bprompt is too long: \d+ tokens > \d+"
    r"|\bexceed context limit: \d+ \+ \d+ > \d+"
    r"|\bmaximum (?:context|prompt) length is \d+"
    r"|\bmodel's context length is only \d+"
    r"|\bexceeds the maximum number of tokens allowed \(\d+\)"
    r"|\btoo large for model with \d+ maximum context length"
    r"|\bprompt is too long: \d+, model maximum context length: \d+"
    r"|\btokens \+ `?max_new_tokens`? must be <= \d+"
    r"|\bgreater than the context length \(n_keep: \d+"
    r"|\bloaded with context length of only \d+"
    r"|\bprompt too long; exceeded (?:max )?context length by \d+",
    re.IGNORECASE,
)
"""How those say it that have no code for it: Anthropic (the first two; https://docs.claude.com/en/api/errors has its
``invalid_request_error``, and no words), OpenAI's older models, vLLM, DeepSeek, OpenRouter and xAI, newer vLLM, Gemini,
Mistral (https://docs.mistral.ai/resources/known-limitations), Fireworks (https://github.com/fw-ai/cookbook/issues/134),
Together (https://github.com/BerriAI/litellm/issues/4934), LM Studio (https://github.com/Gitlawb/openclaude/issues/353,
https://github.com/cline/cline/issues/3664), Ollama.

With their figures, so that nothing else is taken for it. Should a caller's own text within a refusal read so, a
larger route is asked in vain, and says why.
"""
_CONTENT_POLICY: Final = frozenset({"content_policy_violation", "content_filter", "moderation_blocked"})
"""How providers say that a request is against their policy, whatever the status."""
_SECONDS: Final = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s")


class Failed(Exception):
    """One try came to nothing.

    ``pause`` is how long to wait before the same route may be tried again; ``retry_after`` is what
    the provider asked for; ``blameless`` means that it tells nothing of the route. ``flowed`` means that
    the answer still came when the route's whole time was over: it is charged. ``curable`` means that another
    route may well take what this one refused. Times are in seconds.
    """

    def __init__(
        self,
        outcome: AttemptOutcome,
        *,
        pause: float | None = None,
        retry_after: float | None = None,
        blameless: bool = False,
        flowed: bool = False,
        refusal: ProviderRefusal | None = None,
        curable: bool = False,
    ) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.pause = pause
        self.retry_after = retry_after
        self.blameless = blameless or flowed
        self.flowed = flowed
        self.refusal = refusal
        self.curable = curable

    @property
    def leave_for(self) -> float | None:
        """How long the provider wants to be left alone, where that is longer than one request waits."""
        asked = self.retry_after
        return asked if asked is not None and asked > RETRY_AFTER_AT_MOST else None


async def rejected(route: RouteSettings, upstream: Upstream, chance: Callable[[], float]) -> Failed:
    """Classify an answer that is not 200."""
    status = upstream.status
    error = await told_error(upstream) if status >= 400 else read_refusal(b"")
    if 400 <= status < 500 and _is_against_policy(error):
        return Failed(AttemptOutcome.REFUSED, refusal=ProviderRefusal(status, error))
    if status == 413 and error["code"] == "rate_limit_exceeded":
        # Groq: more at once than the account may ask for in a minute, which tells nothing of how the route is.
        return Failed(AttemptOutcome.RATE_LIMITED, blameless=True)
    if status in _MAY_OVERFLOW and _is_too_large(status, error):
        return Failed(AttemptOutcome.CONTEXT_OVERFLOW, refusal=ProviderRefusal(status, error), curable=True)
    quota = is_spent(status, error)
    if status < 400 or quota or _is_operators_fault(status, error):
        log.error(
            "provider.misconfigured",
            extra={
                "route": route.name,
                "status": status,
                "cure": "check the provider's base_url, key, model and quota",
            },
        )
        return Failed(AttemptOutcome.RATE_LIMITED if quota else AttemptOutcome.ERROR)
    model_failed = bool(_said(error) & _FAILED_GENERATION)  # with these tools; that is no matter of others
    if status == 429 or status >= 500 or status in _OVERLOADED or model_failed:
        outcome = AttemptOutcome.RATE_LIMITED if status == 429 else AttemptOutcome.ERROR
        asked = _asked(upstream.headers, error)
        return Failed(outcome, pause=_pause(chance, status, asked), retry_after=asked, blameless=model_failed)
    cannot = bool(_said(error) & _MODEL_CANNOT)  # where we refuse it ourselves, the provider was not even asked
    return Failed(AttemptOutcome.REFUSED, refusal=ProviderRefusal(status, error), curable=cannot, blameless=cannot)


def _said(error: Mapping[str, object]) -> set[object]:
    return {error["code"], error["type"]}


def _is_against_policy(error: Mapping[str, object]) -> bool:
    """Tell whether a request was refused for what it says; OpenRouter tells the ``reasons`` of its moderation."""
    about = error.get("metadata")
    return bool(_said(error) & _CONTENT_POLICY) or (isinstance(about, dict) and bool(about.get("reasons")))


def _is_too_large(status: int, error: Mapping[str, object]) -> bool:
    words = _OVERFLOW_WORDS.search(str(error["message"]))
    return status == 413 or bool(_said(error) & _CONTEXT_OVERFLOW) or words is not None


def is_wrong_key(status: int, error: Mapping[str, object]) -> bool:
    """Tell whether a provider refused the key itself."""
    return status == 401 or (status == 400 and _WRONG_KEY.match(str(error["message"])) is not None)


def is_wrong_place(status: int, error: Mapping[str, object]) -> bool:
    """Tell whether a provider serves nobody from where the gateway is, by another status than 403."""
    return status == 400 and _WRONG_PLACE.match(str(error["message"])) is not None


def is_spent(status: int, error: Mapping[str, object]) -> bool:
    """Tell whether a provider says, by another status than 402, that the account may spend no more."""
    return status in {400, 429} and bool(_said(error) & _OPERATORS_CODES)


def _is_operators_fault(status: int, error: Mapping[str, object]) -> bool:
    return status in _OPERATORS_FAULT or is_wrong_key(status, error) or is_wrong_place(status, error)


async def told_error(upstream: Upstream) -> dict[str, object]:
    """Return the ``error`` object of what a provider says of its error."""
    return read_refusal(await read_error(upstream))


def _pause(chance: Callable[[], float], status: int, asked: float | None) -> float | None:
    """Return how long to wait before the same route is tried again; ``None``: go on to the next."""
    if status not in RETRY_SAME_STATUSES:
        return None
    if asked is None:
        return jittered(chance)
    return max(asked, jittered(chance)) if asked <= RETRY_AFTER_AT_MOST else None


def _asked(headers: Mapping[str, str], error: Mapping[str, object]) -> float | None:
    """Return the seconds that a provider asks to be left alone; a date without its ``Date`` counts from now.

    Google's APIs tell them in the body (https://cloud.google.com/apis/design/errors, ``RetryInfo``).
    """
    asked = retry_after({"date": format_datetime(datetime.now(UTC), usegmt=True), **headers})
    details = error.get("details")
    if asked is not None or not isinstance(details, list):
        return asked
    delays = [_SECONDS.fullmatch(str(detail.get("retryDelay"))) for detail in details if isinstance(detail, dict)]
    return next((float(delay[1]) for delay in delays if delay is not None), None)


def jittered(chance: Callable[[], float]) -> float:
    """Return the pause before the same route is tried again, in seconds."""
    return SAME_ROUTE_PAUSE * (1 + chance())
