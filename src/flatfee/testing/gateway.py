"""A scripted gateway: the production gateway, in a thread of this process, that does what a test says.

Each method is a line; what it does is in a folder of its own: ``scripting``, ``faults``, ``state``, ``judging``,
``tapes``, and for time and transports ``running``.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack

from flatfee.testing import building
from flatfee.testing.judging.checks.base import Limits
from flatfee.testing.judging.journal import Journal
from flatfee.testing.judging.verdicts import Verdict, judge, settled
from flatfee.testing.options import Options, method_taking, taking
from flatfee.testing.running.front import Handler
from flatfee.testing.running.moving import Time
from flatfee.testing.scripting.gates import Gate
from flatfee.testing.scripting.matching import MatchKeywords
from flatfee.testing.scripting.played import Answer
from flatfee.testing.scripting.script import Rule
from flatfee.testing.state import controls
from flatfee.testing.state.accounts import Accounts, AccountState
from flatfee.testing.state.keys import add_key

if TYPE_CHECKING:
    import flatfee
    from flatfee.testing.running.memory import AsgiApp, AsyncTransport, Transport
    from flatfee.testing.tapes.taping import Taping

_T = TypeVar("_T")


class ScriptedGateway:
    """A running gateway. ``base_url`` and ``api_key`` are what a client needs of it.

    ``account`` is whose key that is, ``accounts`` are all, by name. ``workflows`` are the slots, ``routes`` the routes
    by name. Its methods may be called from any thread but the gateway's own. Make one with ``running_gateway``.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._built = building.build(options)
        self.rules = self._built.rules
        self.api_key = self._built.api_key
        self.host, self.port = self._built.host, self._built.port
        inside = self._built.inside
        self.account = AccountState(inside.account, inside)
        self.accounts = Accounts(inside)
        self.workflows = controls.Workflows(inside)
        self.routes = controls.Routes(inside)
        self._inside = inside
        self._time = Time(inside)

    @property
    def base_url(self) -> str:
        """Where the gateway is: ``http://127.0.0.1:PORT/v1``; without a socket ``http://gateway/v1``."""
        port = f":{self.port}" if self.options.socket else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}{port}/v1"

    @property
    def env(self) -> dict[str, str]:
        """The environment variables by which SDKs find the gateway and their key."""
        return {
            f"{sdk}_{name}": value
            for sdk in ("FLATFEE", "OPENAI")
            for name, value in (("BASE_URL", self.base_url), ("API_KEY", self.api_key))
        }

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the gateway's event loop, and return what it returns."""
        return self._inside.run(work)

    def script(
        self,
        *replies: Answer,
        times: int | None = None,
        first: bool = False,
        name: str | None = None,
        **match: Unpack[MatchKeywords],
    ) -> Rule:
        """Add a rule: what is said when a provider is asked for what ``match`` describes (``Script.add``).

        An ``Edge`` happens between the gateway and its caller, to requests that ``match`` describes when they come.
        """
        self._inside.changed()
        return self.rules.add(*replies, times=times, first=first, name=name, **match)

    def gate(self) -> Gate:
        """Return a gate, which holds answers back until it is opened."""
        return Gate()

    @property
    def taping(self) -> Taping:
        """The tapes that are replayed or recorded."""
        return self._built.taping

    def assert_all_matched(self) -> None:
        """Raise ``UnmatchedRequest`` if a strict script had no rule for a request. Closing asks this as well."""
        self.rules.check()

    def assert_all_used(self) -> None:
        """Raise ``AssertionError`` if the script has a reply that was not said."""
        self.rules.check_all_used()

    @property
    def now(self) -> datetime:
        """What time it is for the gateway, in UTC."""
        return datetime.fromtimestamp(self._inside.clock.wall(), UTC)

    def advance(self, by: float | timedelta) -> None:
        """Let time go by at once, in seconds; timers ring on the way, each at its time.

        Leases expire, windows end, circuits cool down, and requests that run meet their limits.

        Raises:
            ValueError: time does not go backwards, nor beyond the year 9000.
        """
        self._time.advance(by)

    def advance_to(self, moment: datetime | str) -> None:
        """Let it be ``moment``, a date and time with a zone, or its ISO text.

        Raises:
            ValueError: it has passed already, or has no zone.
        """
        self._time.advance_to(moment)

    def advance_to_window_end(self, account: str | None = None) -> None:
        """Let the billing window of an account end, of the first one unless told: the next has just begun."""
        self._time.advance_to_window_end(account)

    def sleep(self, seconds: float) -> None:
        """Sleep by the gateway's clock: it goes on, and nobody waits. For clients whose sleep can be replaced."""
        self._time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Sleep so in a coroutine, on asyncio or trio."""
        await self._time.asleep(seconds)

    def new_key(
        self,
        *,
        project: str | None = None,
        account: str | None = None,
        models: Collection[str] | None = None,
        team: bool = False,
        expires: datetime | str | timedelta | float | None = None,
    ) -> str:
        """Make a key, with its project and its account where those are new; return the secret.

        A new account has a plan of its own, as the first one's was at the start. ``models`` are all that the key may
        ask for, ``team`` makes a key of the whole account, ``expires`` is a moment, or seconds from now.

        Raises:
            ValueError: naming what is impossible.
        """
        return add_key(self._inside, project=project, account=account, models=models, team=team, expires=expires)

    def ledger_down(self) -> AbstractContextManager[None]:
        """Let the ledger be out of reach while a block lasts: ``store_unavailable``."""
        return controls.ledger_down(self._inside)

    def overload(self) -> AbstractContextManager[None]:
        """Let the gateway be as busy as it may be while a block lasts: ``gateway_overloaded``."""
        return controls.overload(self._inside)

    def drain(self) -> AbstractContextManager[None]:
        """Let the gateway be shutting down while a block lasts: what is new is ``gateway_overloaded``."""
        return controls.drain(self._inside)

    def down(self) -> AbstractContextManager[None]:
        """Let connections be refused while a block lasts, and cut those off that there are. The address stays."""
        return self._built.down()

    def transport(self) -> Transport:
        """Return a transport that reaches the gateway without a socket, for a ``Client`` of ``httpx`` or ``httpx2``."""
        from flatfee.testing.running.memory import Transport

        return Transport(self._built.memory)

    def async_transport(self) -> AsyncTransport:
        """Return such a transport for an ``AsyncClient`` of ``httpx`` or ``httpx2``."""
        from flatfee.testing.running.memory import AsyncTransport

        return AsyncTransport(self._built.memory)

    @property
    def asgi(self) -> AsgiApp:
        """The gateway as an ASGI app, for any event loop."""
        from flatfee.testing.running.memory import AsgiApp

        return AsgiApp(self._built.memory)

    def client(self, *, memory: bool = False, **options: Any) -> flatfee.Client:
        """Return a client of the gateway. Between tries it sleeps by the gateway's clock, so nobody waits.

        It is closed with the gateway. ``memory`` is for one without a socket, ``options`` are the client's own.
        """
        return self._built.clients.client(self, memory=memory, **options)

    def async_client(self, *, memory: bool = False, **options: Any) -> flatfee.AsyncClient:
        """Return such a client for coroutines."""
        return self._built.clients.async_client(self, memory=memory, **options)

    def reset(self) -> None:
        """Be as at the start: script, journal, accounts, use, keys, slots and health. The clock and ``api_key`` stay.

        Keys and accounts that were made since are gone. A request that runs is not known any more.
        """
        self._built.reset()

    def serve_beside(self, name: str, handler: Handler) -> None:
        """Let an ASGI app serve the paths whose first segment is ``name``."""
        self._inside.front.beside[name] = handler

    @property
    def journal(self) -> Journal:
        """What the gateway was asked so far, and what became of it. A copy: ask again for more."""
        self._inside.thread.turn()
        return Journal.copied(self._inside.front.exchanges, self._inside.clock.epoch)

    @method_taking(Limits)
    def verdict(self, **limits: Any) -> Verdict:
        """Judge the client by what it sent so far. The arguments are those of ``Limits``."""
        allowed = Limits(**limits)
        return judge(settled(self.journal, allowed), allowed, active=self._slots())

    @method_taking(Limits)
    def assert_resilient(self, **limits: Any) -> None:
        """Accept a client that broke no rule. The arguments are those of ``Limits``.

        Raises:
            AssertionError: lists every violation, and what was asked.
        """
        self.verdict(**limits).insist()

    def _slots(self) -> frozenset[str] | None:
        """Return the workflows that hold a slot; ``None`` when the gateway is closed, or its ledger down."""
        if not self._inside.thread.is_running or self._inside.store.down:
            return None
        return frozenset(lease.id for lease in self.run(self._inside.store.all_workflows()))

    def close(self) -> None:
        """End the gateway: connections are closed, and nothing of it is left. Closing again does nothing."""
        self._built.close()

    def __repr__(self) -> str:
        return f"<ScriptedGateway {self.base_url}>"


class GatewayFactory(Protocol):
    """What the fixture ``flatfee_gateways`` is: a function that starts gateways which end with the test."""

    @method_taking(Options)
    def __call__(self, **options: Any) -> ScriptedGateway:
        """Start one. The options are those of ``Options``."""
        raise NotImplementedError


@taking(Options)
def make_gateway(**options: Any) -> ScriptedGateway:
    """Start a gateway that somebody else ends. The options are those of ``Options``."""
    return ScriptedGateway(Options.of(options))


@taking(Options)
@contextmanager
def running_gateway(**options: Any) -> Generator[ScriptedGateway, None, None]:
    """Run a scripted gateway while the block lasts. The options are those of ``Options``.

    Raises:
        UnmatchedRequest: at the end, a strict script had no rule for a request.
        ScriptFailed: at the end, a function of the script raised an error.
        TapeError: a tape cannot be used; at the end, one could not be written.
    """
    with closing(make_gateway(**options)) as gateway:
        yield gateway
    gateway.assert_all_matched()
    gateway.taping.check()
