"""Whether the routes answer: each is asked for one token, by the same providers and bodies that serve.

Costs about a token a route, or what a model must think first, and writes nothing. Why a route failed is told in
``causes``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import msgspec

from flatfee.server.answers.lenient import UNREADABLE
from flatfee.server.answers.members import UnusableAnswer
from flatfee.server.answers.plain import read_refusal
from flatfee.server.answers.reshape import as_stream, shape_of
from flatfee.server.answers.sse import DONE, cut_events, payload_of
from flatfee.server.answers.stream import RelayedStream
from flatfee.server.ask import read_ask
from flatfee.server.bodies import body_for
from flatfee.server.configuration import is_sendable, with_key
from flatfee.server.doctor.causes import Refused, failing
from flatfee.server.doctor.finding import Finding, fail, ok, warn
from flatfee.server.doctor.listed import ListedModels, read_list
from flatfee.server.providers.base import ListsModels, Provider, ProviderFailure, Upstream
from flatfee.server.providers.registry import make_providers
from flatfee.server.settings import ProviderSettings, RouteSettings, Settings
from flatfee.server.stages.failures import told_error

PATIENCE: Final = 20.0
"""Seconds for a route's whole answer, and for a provider's list of models."""

AT_ONCE: Final = 4
"""So many routes are asked at the same time."""

MOST_BYTES: Final = 262_144
"""An answer is not longer, at the largest limit that is asked for."""

SHORTEST_SECRET: Final = 8
"""Characters; what is shorter is a word that stands for a key that a server does not look at, such as ``none``."""

_QUESTION: Final = [{"role": "user", "content": "ping"}]
_LIMITS: Final[tuple[Mapping[str, int], ...]] = (
    {"max_completion_tokens": 1},
    {"max_tokens": 16},
    {"max_completion_tokens": 1024},
)
"""Ways to ask for little, in their order: some models know one name only, or refuse so small a number.

OpenAI's that reason refuse what they could not say within it (https://github.com/grafana/grafana-llm-app/pull/780);
of the last one they take as much as they need to think.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a route answered. ``first_token`` is in seconds; ``model`` as the provider names it, if it does."""

    first_token: float
    model: str | None
    usage: bool
    endless: bool


def try_routes(settings: Settings, env: Mapping[str, str], *, patience: float = PATIENCE) -> list[Finding]:
    """Ask every route for a token; return what was found, route by route in the file's order.

    ``settings`` need no secrets: those of the providers are taken from ``env``.
    """
    return asyncio.run(_try_all(settings, env, patience))


async def _try_all(settings: Settings, env: Mapping[str, str], patience: float) -> list[Finding]:
    configured = {provider.name: provider for provider in settings.providers}
    keyless = {name: _keyless(provider, env) for name, provider in configured.items()}
    providers = make_providers(with_key(each, env) for name, each in configured.items() if keyless[name] is None)
    turn = asyncio.Semaphore(AT_ONCE)

    async def listed(name: str) -> ListedModels | None:
        async with turn:
            return await _listed(providers[name], patience) if keyless[name] is None else None

    async def tried(route: RouteSettings, lists: Mapping[str, ListedModels | None]) -> Iterator[Finding]:
        name = route.provider
        if (why := keyless[name]) is not None:
            return iter([_not_asked(route, why, configured[name])])
        async with turn:
            return await _try_route(route, configured[name], providers[name], lists[name], patience)

    try:
        lists = dict(zip(configured, await asyncio.gather(*map(listed, configured)), strict=True))
        found = await asyncio.gather(*(tried(route, lists) for route in settings.routes))
    finally:
        for provider in providers.values():
            await provider.close()
    secrets = [key.get_secret_value() for each in settings.providers if (key := with_key(each, env).api_key)]
    return [_masked(finding, secrets) for finding in chain.from_iterable(found)]


def _masked(finding: Finding, secrets: Iterable[str]) -> Finding:
    """Return a finding without the providers' keys: one may tell its own back as the name of a model, or a code."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET and secret in finding.found:
            finding = replace(finding, found=finding.found.replace(secret, "…"))
    return finding


def _keyless(provider: ProviderSettings, env: Mapping[str, str]) -> str | None:
    """Return why a provider cannot be asked with its key, if it should have one."""
    key = with_key(provider, env).api_key
    if key is not None:
        return None if is_sendable(key.get_secret_value()) else "cannot stand in a header"
    return "is not set" if provider.needed_env else None


def _not_asked(route: RouteSettings, why: str, provider: ProviderSettings) -> Finding:
    name = provider.key_env or "api_key"
    cure = f"Export {name}; the doctor sees only its own environment."
    return fail(f"route {route.name}", f"it was not asked: its key {name} {why}", cure)


async def _listed(provider: Provider, patience: float) -> ListedModels | None:
    data = await provider.models(patience=patience) if isinstance(provider, ListsModels) else None
    return read_list(data) if data is not None else None


async def _try_route(
    route: RouteSettings, settings: ProviderSettings, provider: Provider, listed: ListedModels | None, patience: float
) -> Iterator[Finding]:
    seconds = min(patience, route.total_timeout)
    try:
        async with asyncio.timeout(seconds):
            heard = await _ask(route, settings, provider)
    except (Refused, ProviderFailure, UnusableAnswer, TimeoutError) as error:
        return chain([failing(route, settings, error, seconds)], _missed(route, listed))
    return chain(_judged(route, heard), _compared(route, heard, listed))


def _judged(route: RouteSettings, heard: Heard) -> Iterator[Finding]:
    check = f"route {route.name}"
    took = f"it answered in {1000 * heard.first_token:,.0f} ms"
    model = f", as {heard.model!r}" if heard.model not in {None, route.model} else ""
    if heard.usage:
        yield ok(check, f"{took}{model}, and told usage")
    else:
        cure = "Receipts of its streams are estimates. See [providers.dialect] for how usage is asked for."
        yield warn(check, f"{took}{model}, and told no usage", cure)
    if heard.endless:
        cure = "Name the one limit that it knows: output_limit in [providers.dialect]."
        yield warn(check, "it went on where one token was asked for", cure)
    limit = route.first_token_timeout
    if limit is not None and heard.first_token > limit:
        cure = f"Give first_token_timeout more than {heard.first_token:.0f} s, or requests go on to the next route."
        yield warn(check, f"its first token came after its first_token_timeout of {limit:g} s", cure)


def _missed(route: RouteSettings, listed: ListedModels | None) -> Iterator[Finding]:
    """Say of a route that failed whether its provider lists the model; of one that answers it would tell nothing."""
    if listed is not None and route.model not in listed.sizes:
        near = ", ".join(map(repr, listed.near(route.model)))
        cure = f"Write a model that it lists, such as {near}." if near else "Write a model that it lists."
        yield fail(f"route {route.name}", f"its provider does not list the model {route.model!r}", cure)


def _compared(route: RouteSettings, heard: Heard, listed: ListedModels | None) -> Iterator[Finding]:
    """Hold what the file says of a route's context against what its provider tells."""
    size = listed.size_of(route.model, heard.model) if listed is not None else None
    if size is None:
        return
    check, cure = f"route {route.name}", f"Write context_tokens = {size}, so that what is larger goes to another route."
    if route.context_tokens is None:
        yield warn(check, f"the file says nothing of its context; its provider tells {size:,} tokens", cure)
    elif route.context_tokens > size:
        yield warn(check, f"context_tokens is {route.context_tokens:,}; its provider tells {size:,}", cure)


async def _ask(route: RouteSettings, settings: ProviderSettings, provider: Provider) -> Heard:
    """Ask for a token, in another way if one is refused.

    Raises:
        Refused: the provider answered with an error.
        ProviderFailure, UnusableAnswer: no answer came, or none that is one.
    """
    *others, last = _LIMITS
    for limit in others:
        try:
            return await _asked(route, settings, provider, limit)
        except Refused as refused:
            if refused.status not in {400, 422}:
                raise
    return await _asked(route, settings, provider, last)


async def _asked(
    route: RouteSettings, settings: ProviderSettings, provider: Provider, limit: Mapping[str, int]
) -> Heard:
    question = {"model": route.model, "messages": _QUESTION, "stream": True, **limit}
    body = body_for(read_ask({}, msgspec.json.encode(question)), route.model, settings.speaks)
    began = asyncio.get_running_loop().time()
    async with provider.send(route, body, stream=True) as upstream:
        if upstream.status != 200:
            raise Refused(upstream.status, await told_error(upstream) if upstream.status >= 400 else read_refusal(b""))
        return await _heard(upstream, began)


async def _heard(upstream: Upstream, began: float) -> Heard:
    relayed = RelayedStream(include_usage=True)
    first_token: float | None = None
    seen = b""
    async for data in _as_events(upstream):
        seen += data
        relayed.feed(data)
        if relayed.failure is not None:
            raise relayed.failure
        if relayed.tokens and first_token is None:
            first_token = asyncio.get_running_loop().time() - began
        if relayed.done or len(seen) > MOST_BYTES:
            break
    relayed.end()
    endless = len(seen) > MOST_BYTES and not relayed.done
    if first_token is None or not (relayed.ended_well or endless):
        raise UnusableAnswer("is neither a completion nor a stream of one, or ends in its middle")
    return Heard(first_token=first_token, model=_model_of(seen), usage=relayed.usage is not None, endless=endless)


async def _as_events(upstream: Upstream) -> AsyncIterator[bytes]:
    """Yield an answer as a stream, also where the provider answers a plain completion."""
    seen = b""
    async for data in upstream.chunks():
        seen += data
        if shape_of(seen) != "json":
            yield data
        elif len(seen) > MOST_BYTES:
            raise UnusableAnswer(f"has more than {MOST_BYTES} bytes where one token was asked for")
    if shape_of(seen) == "json":
        yield b"".join([*as_stream(seen), DONE])


def _model_of(stream: bytes) -> str | None:
    """Return the model that a stream names, at most as much as is fit to be shown."""
    for event in cut_events(stream)[0]:
        try:
            chunk = msgspec.json.decode(payload_of(event) or b"")
        except UNREADABLE:
            continue
        model = chunk.get("model") if isinstance(chunk, dict) else None
        if isinstance(model, str) and model.isprintable():
            return model[:100]
    return None
