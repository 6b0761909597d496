"""Why a route did not answer, and what to do about it. Pure: what came of the try in, a finding out.

A provider's own words are not repeated: they may hold a part of the key. Its code is, where it looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.doctor.finding import Finding, fail, warn
from flatfee.server.providers.base import ProviderFailure
from flatfee.server.settings import ProviderSettings, RouteSettings
from flatfee.server.stages.failures import is_spent, is_wrong_key, is_wrong_place
from flatfee.wire import AttemptOutcome

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_UNKNOWN_MODEL: Final = frozenset({"model_not_found", "model_not_available", "DeploymentNotFound"})

_SAYS_NOTHING: Final = "invalid_request_error"
"""What stands for the type that a provider did not tell."""

_SILENT: Final = "Wait and try again; where it needs longer to load a model, give first_token_timeout more."
_ADDRESS: Final = "Check base_url: it is what stands before /chat/completions, and mostly ends in /v1."
_REACH: Final = "See what is told of its provider above."


class Refused(Exception):
    """A provider answered with a status that is not 200. ``error`` has every member that OpenAI's has."""

    def __init__(self, status: int, error: Mapping[str, object]) -> None:
        super().__init__(status)
        self.status = status
        self.error = error


def failing(route: RouteSettings, provider: ProviderSettings, error: Exception, seconds: float) -> Finding:
    """Return the finding for a route that did not answer; ``seconds`` is how long it was waited for."""
    check = f"route {route.name}"
    if isinstance(error, Refused):
        return _refused(check, route, provider, error)
    if isinstance(error, TimeoutError):
        return fail(check, f"no whole answer came within {seconds:g} s", _SILENT)
    if isinstance(error, ProviderFailure) and error.outcome in {AttemptOutcome.TIMEOUT, AttemptOutcome.UNAVAILABLE}:
        return fail(check, f"its provider {error}", _REACH)
    if isinstance(error, ProviderFailure):
        return fail(check, f"its provider {error}", "Try again; if it happens again, look at the provider's own log.")
    what = f"what came {error}" if isinstance(error, UnusableAnswer) else "what came is of no use"
    return fail(check, what, _ADDRESS)


def _refused(check: str, route: RouteSettings, provider: ProviderSettings, refused: Refused) -> Finding:
    status, error = refused.status, refused.error
    code = _code(error)
    shown = f"({status}, {code})" if code else f"({status})"
    key = provider.key_env or "the provider's api_key"
    if is_wrong_key(status, error):
        return fail(
            check, f"the key is refused {shown}", f"Check the value of {key}: a key of this provider, and current."
        )
    if status == 402 or is_spent(status, error):
        return fail(check, f"the account has nothing left to spend {shown}", "Top it up, or raise its limit.")
    if status in {403, 412} or is_wrong_place(status, error):
        cure = f"Check what the account and {key} may use, {route.model!r} among it, and from which country."
        return fail(check, f"this is not allowed {shown}", cure)
    if status == 404 and code in _UNKNOWN_MODEL:
        return fail(check, f"there is no model {route.model!r} {shown}", "Write one that the provider lists.")
    if status in {404, 405} or status < 400:
        cure = f"{_ADDRESS} If that is right, the provider does not know the model {route.model!r}."
        return fail(check, f"nothing is there under this address and model {shown}", cure)
    if status == 429:
        return warn(
            check, f"it is at its rate limit {shown}", "Wait and try again; it answers, so address and key are right."
        )
    if status >= 500 or status in {408, 498}:
        return fail(check, f"its provider is in trouble {shown}", "Try again, and look at the provider's status page.")
    cure = f"Check the model {route.model!r}, and [providers.dialect] of {provider.name!r}: what it takes."
    return fail(check, f"a question of one word is refused {shown}", cure)


def _code(error: Mapping[str, object]) -> str | None:
    """Return what a provider calls its error, where that is fit to be shown and tells something."""
    names = [name for name in (error["code"], error["type"]) if isinstance(name, str) and name != _SAYS_NOTHING]
    return next((name for name in names if _CODE.fullmatch(name)), None)
