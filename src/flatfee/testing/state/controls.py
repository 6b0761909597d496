"""State of a scripted gateway beside its accounts: workflow slots, the health of routes, and failures of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from typing import TypeVar

from flatfee.server.health import LONGEST_COOL_DOWN, RouteHealth
from flatfee.server.store.accounts import NoSuch
from flatfee.server.store.book import SlotKey
from flatfee.server.store.ledger_commands import ReleaseWorkflow
from flatfee.testing.inside import ACTOR, Inside
from flatfee.testing.state.accounts import AccountState
from flatfee.types import Workflow
from flatfee.wire import WORKFLOW_ID

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Workflows:
    """The workflow slots of a gateway."""

    _inside: Inside

    @property
    def active(self) -> tuple[Workflow, ...]:
        """The named workflows that hold a slot now, of every account, oldest first."""
        leases = self._inside.run(self._inside.store.all_workflows())
        return tuple(
            Workflow(
                id=lease.id,
                in_flight=lease.in_flight,
                started_at=datetime.fromtimestamp(lease.started_at, UTC),
                expires_at=datetime.fromtimestamp(lease.expires_at, UTC),
            )
            for lease in leases
        )

    def hold(self, workflow: str | int, *, account: str | None = None) -> tuple[str, ...]:
        """Hold slots as workflows would that have just been answered; return their ids.

        A text is a workflow's id: requests of it share the slot. A number holds so many slots under ids of their
        own. They expire by the gateway's clock, after the plan's ``workflow_idle``.

        Raises:
            ValueError: the id is none, or the plan has fewer slots that are free.
        """
        return self._inside.run(self._hold(workflow, account or self._inside.account))

    def release(self, workflow: str, *, account: str | None = None) -> None:
        """Free a workflow's slot; while requests of it run, with the last of them.

        Raises:
            KeyError: it holds none.
        """
        self._inside.change(self._release(workflow, account or self._inside.account))

    async def _hold(self, workflow: str | int, account: str) -> tuple[str, ...]:
        state, store = AccountState(account, self._inside), self._inside.store
        plan, project = await state.plan(), await state.project()
        taken = {lease.id for lease in await store.all_workflows() if lease.account == account}
        wanted = _wanted(workflow, taken)
        usage = await state.told()
        active = (usage.workflows.active if usage.workflows is not None else None) or 0
        if active + wanted > plan.concurrent_workflows:
            message = (
                f"hold({workflow!r}): {active} of {plan.concurrent_workflows} workflows of {account!r} are active; "
                "release some, or set a higher concurrent_workflows."
            )
            raise ValueError(message)
        ids = (workflow,) if isinstance(workflow, str) else tuple(islice(_free(taken), workflow))
        for each in ids:
            await store.hold(SlotKey(account, project, each), plan.workflow_idle)
        return ids

    async def _release(self, workflow: str, account: str) -> None:
        project = await AccountState(account, self._inside).project()
        try:
            await self._inside.store.administer(
                ACTOR, ReleaseWorkflow(account=account, project=project, workflow=workflow)
            )
        except NoSuch as error:
            held = ", ".join(lease.id for lease in await self._inside.store.all_workflows())
            raise KeyError(
                f"The workflow {workflow!r} of {account!r} holds no slot; {held or 'nobody'} does."
            ) from error


def _wanted(workflow: object, taken: set[str]) -> int:
    """Return how many more slots it takes to hold what was given."""
    if isinstance(workflow, str) and WORKFLOW_ID.fullmatch(workflow):
        return 0 if workflow in taken else 1
    if isinstance(workflow, int) and not isinstance(workflow, bool) and workflow >= 1:
        return workflow
    message = f"hold({workflow!r}): give an id of 1 to 128 letters, digits and . _ : -, or how many slots, 1 or more."
    raise ValueError(message)


def _free(taken: set[str]) -> Iterator[str]:
    return (name for name in (f"held-{number}" for number in count(1)) if name not in taken)


@dataclass(frozen=True, slots=True)
class RouteState:
    """One route: its circuit, and whether its provider can be reached."""

    name: str
    _inside: Inside

    @property
    def health(self) -> RouteHealth:
        """What the gateway knows of the route."""
        return self._inside.run(self._ask(lambda now: self._inside.gateway.health.report(self.name, now)))

    def open(self, seconds: float = LONGEST_COOL_DOWN) -> None:
        """Open the circuit, as a provider does that asks to be left alone: the route is passed over for so long.

        Raises:
            ValueError: no circuit opens for so long, or time would go backwards.
        """
        if not 0 < seconds <= LONGEST_COOL_DOWN:
            message = (
                f"open({seconds!r}): a circuit opens for at most {LONGEST_COOL_DOWN:g} seconds, and for more than 0; "
                "for longer, use down()."
            )
            raise ValueError(message)
        health = self._inside.gateway.health
        self._inside.change(self._ask(lambda now: health.failed(self.name, now, 0, leave_for=seconds)))

    def close(self) -> None:
        """Close the circuit: every request may use the route."""
        self._inside.change(self._ask(lambda _: self._inside.gateway.health.close(self.name)))

    def down(self) -> None:
        """Let every try of the route fail as one whose provider cannot be reached, until ``up``. No rule is asked."""
        self._inside.change(self._ask(lambda _: self._inside.provider.down.add(self.name)))

    def up(self) -> None:
        """Let the provider be reached again. The circuit is closed by the next success, or by ``close``."""
        self._inside.change(self._ask(lambda _: self._inside.provider.down.discard(self.name)))

    async def _ask(self, do: Callable[[float], _T]) -> _T:
        return do(self._inside.gateway.monotonic())


@dataclass(frozen=True, slots=True)
class Routes(Mapping[str, RouteState]):
    """The routes of a gateway, by name."""

    _inside: Inside

    def __getitem__(self, name: str) -> RouteState:
        """Return a route.

        Raises:
            KeyError: there is none; the message lists those that are.
        """
        if name not in list(self):
            raise KeyError(f"There is no route {name!r}; there are: {', '.join(self)}.")
        return RouteState(name, self._inside)

    def __iter__(self) -> Iterator[str]:
        """Return their names, in the order of the configuration."""
        return iter([route.name for route in self._inside.gateway.settings.routes])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._inside.gateway.settings.routes)


@contextmanager
def ledger_down(inside: Inside) -> Generator[None, None, None]:
    """Let nothing be read from the ledger or written to it."""
    inside.store.down = True
    try:
        yield
    finally:
        inside.store.down = False
        inside.changed()


@contextmanager
def overload(inside: Inside) -> Generator[None, None, None]:
    """Let the gateway be as busy as it may be."""
    most = inside.gateway.settings.server.max_requests
    inside.run(_busy(inside, most))
    try:
        yield
    finally:
        inside.change(_busy(inside, -most))


async def _busy(inside: Inside, more: int) -> None:
    inside.gateway.active += more


@contextmanager
def drain(inside: Inside) -> Generator[None, None, None]:
    """Let the gateway refuse what is new, as one that is being shut down."""
    inside.gateway.draining = True
    try:
        yield
    finally:
        inside.gateway.draining = False
        inside.changed()
