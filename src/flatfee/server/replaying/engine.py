"""The replay: requests of the past arrive and end in virtual time, one event after another. Pure.

Every decision is the gateway's own: ``plan_routes``, the ledger's transactions, the circuits of ``Health``, the
charge of ``outcome_of``. Here is only the order of events, and what becomes of a request between them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec

from flatfee.receipt import Receipt, WorkflowState
from flatfee.server.faults import Fault
from flatfee.server.gateway import LEASE_SECONDS, resolve
from flatfee.server.health import Health
from flatfee.server.meter import Meter
from flatfee.server.policy.facts import Facts
from flatfee.server.policy.plan import Choice, RoutePlan, plan_routes
from flatfee.server.replaying.guessing import Guesser, MeanAnswer
from flatfee.server.replaying.ledgers import AccountLedger
from flatfee.server.replaying.past import Ending, Past
from flatfee.server.replaying.payers import Payers
from flatfee.server.replaying.results import Result
from flatfee.server.replaying.walk import Walk
from flatfee.server.settings import Settings
from flatfee.server.stages.admit import refuse
from flatfee.server.stages.settle import outcome_of
from flatfee.server.store.entries import as_json
from flatfee.server.store.records import Caller, Purse, Refusal, Ticket
from flatfee.wire import AttemptOutcome, ErrorCode, Model, ReceiptState

HEARTBEAT: Final = LEASE_SECONDS / 3

Chance = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One request, and what it would have come to; ``json`` is its receipt, absent where it stays as it was.

    ``guessed`` says that the past tells no answer, and one was assumed.
    """

    past: Past
    result: Result
    json: bytes | None = None
    guessed: bool = False


def as_line(played: Played) -> bytes:
    """Return the receipt that would have been, as an export has it; where no policy decides, the past's own figures."""
    line, result = played.past.line, played.result
    whose: dict[str, str | None] = {"account": line.account, "project": line.project}
    if played.json is None:
        told = {"request_id": line.request_id, "state": line.state, "code": line.code}
        return msgspec.json.encode(whose | {name: value for name, value in told.items() if value is not None})
    code = {"code": result.code} if result.code is not None else {}
    return msgspec.json.encode(whose | code)[:-1] + b"," + played.json[1:]


class Dice:
    """Chance for one request, the same in every replay with the same seed."""

    __slots__ = ("_rolled", "_seed")

    def __init__(self, seed: int, request_id: str) -> None:
        self._seed = f"{seed}:{request_id}:"
        self._rolled = 0

    def __call__(self) -> float:
        """Return a number from 0 up to 1."""
        self._rolled += 1
        rolled = blake2b(f"{self._seed}{self._rolled}".encode(), digest_size=6).digest()
        return int.from_bytes(rolled) / (1 << 48)


@dataclass(frozen=True, slots=True)
class _Question:
    """What a settlement asks of a request."""

    model: str
    prompt_tokens: int


@dataclass(slots=True, kw_only=True)
class _Running:
    """An admitted request. ``due`` is when its next step is over, a heartbeat may come before."""

    walk: Walk
    ticket: Ticket
    ledger: AccountLedger
    steps: Generator[float, None, None]
    due: float = 0.0


@dataclass(slots=True)
class Replay:
    """Plays requests under ``settings``. ``dice`` gives each request its chance, ``guess`` what nobody answered."""

    settings: Settings
    payers: Payers
    guess: Guesser = field(default_factory=MeanAnswer)
    dice: Callable[[str], Chance] = field(default=partial(Dice, 0))
    health: Health = field(default_factory=Health)
    now: float = 0.0
    _ledgers: dict[str, AccountLedger] = field(default_factory=dict)
    _events: list[tuple[float, int, _Running]] = field(default_factory=list)
    _numbered: int = 0
    _done: list[Played] = field(default_factory=list)

    def run(self, pasts: Iterable[Past]) -> Iterator[Played]:
        """Yield every request as it ends. They must come in the order of their arrival.

        Raises:
            NoPlan: an account has none.
        """
        for past in pasts:
            yield from self.arrive(past)
        yield from self.finish()

    def arrive(self, past: Past) -> list[Played]:
        """Let a request arrive; return those that have ended by then."""
        self._run_until(past.arrived)
        self.now = max(self.now, past.arrived)
        self.guess.learn(past)
        if past.judged:
            self._admit(past)
        else:
            self._done.append(Played(past=past, result=Result.of_past(past, continuation=0)))
        return self._take()

    def finish(self) -> list[Played]:
        """Let every request that still runs end; return them."""
        self._run_until(None)
        return self._take()

    def _take(self) -> list[Played]:
        done, self._done = self._done, []
        return done

    def _run_until(self, moment: float | None) -> None:
        """Let events happen up to a moment; what ends at the moment of an arrival ends before it."""
        events = self._events
        while events and (moment is None or events[0][0] <= moment):
            self.now, _, running = heapq.heappop(events)
            if self.now < running.due:
                running.ledger.heartbeat(running.ticket, self.now)
                self._wait(running)
            else:
                self._go_on(running)

    def _wait(self, running: _Running) -> None:
        self._numbered += 1
        heapq.heappush(self._events, (min(running.due, self.now + HEARTBEAT), self._numbered, running))

    def _go_on(self, running: _Running) -> None:
        seconds = next(running.steps, None)
        if seconds is None:
            self._settle(running)
            return
        running.due = self.now + seconds
        self._wait(running)

    def _admit(self, past: Past) -> None:
        ledger = self._ledger(past.line.account)
        caller = ledger.caller(past.line.project)
        try:
            plan = self._plan(past, ledger, caller)
        except Fault as fault:
            self._refused(past, _turned_away(past), fault.code)
            return
        offers = tuple(choice.offer for choice in plan.choices)
        want = ledger.want(past.id, caller, past.workflow, offers, past.model)
        answer = ledger.reserve(want, self.now)
        if isinstance(answer, Refusal):
            self._refused(past, refuse(answer, want).receipt or _turned_away(past), answer.code)
        else:
            self._begin(past, ledger, answer, plan.choices[answer.choice])

    def _ledger(self, account: str) -> AccountLedger:
        found = self._ledgers.get(account)
        if found is None:
            found = self._ledgers[account] = AccountLedger(self.payers.payer(account))
        return found

    def _plan(self, past: Past, ledger: AccountLedger, caller: Caller) -> RoutePlan:
        """Plan a request as ``pipeline.plan_request`` does.

        Raises:
            Fault: no route may take it.
        """
        settings, asked, workflow = self.settings, past.asked, past.workflow
        model = resolve(past.model, settings)
        policy = settings.policy
        route = ledger.last_route(caller, workflow, self.now) if asked.tool_loop and workflow is not None else None
        now = datetime.fromtimestamp(self.now, UTC)
        left = ledger.fair_use_left(self.now) if model is Model.AUTO and policy.asks_for_fair_use else None
        facts = Facts.of(asked, model, caller, now, workflow=workflow, fair_use_left=left, tool_loop_route=route)
        down = self.health.down(self.now)
        return plan_routes(facts, caller, ledger.payer.plan, policy, settings.ranks, down, self.dice(past.id))

    def _begin(self, past: Past, ledger: AccountLedger, ticket: Ticket, choice: Choice) -> None:
        meter = Meter(compaction=past.compaction)
        walk = Walk(past=past, routes=choice.routes, meter=meter, health=self.health, time=self._time, guess=self.guess)
        self._go_on(_Running(walk=walk, ticket=ticket, ledger=ledger, steps=walk.steps()))

    def _time(self) -> float:
        return self.now

    def _settle(self, running: _Running) -> None:
        walk, ticket = running.walk, running.ticket
        past = walk.past
        question = _Question(past.model, past.asked.prompt_tokens)
        outcome = outcome_of(ticket, question, running.ledger.payer.plan, walk.meter)
        settlement = running.ledger.settle(ticket, outcome, self.now)
        code, charged = _code(walk), outcome.charged
        result = Result.of_receipt(past, settlement.receipt, code, ticket.offer.purse, charged)
        self._done.append(Played(past=past, result=result, json=settlement.json, guessed=walk.guessed))

    def _refused(self, past: Past, receipt: Receipt, code: ErrorCode) -> None:
        result = Result.of_receipt(past, receipt, code, Purse.NONE, 0)
        self._done.append(Played(past=past, result=result, json=as_json(receipt)))


def _turned_away(past: Past) -> Receipt:
    facts = {"request_id": past.id, "state": ReceiptState.REFUSED, "model_requested": past.model}
    workflow = {"workflow": WorkflowState(id=past.workflow)} if past.workflow is not None else {}
    return Receipt.model_validate(facts | workflow)


def _code(walk: Walk) -> ErrorCode | None:
    """Return the code of the error that a request ended in; a provider's own refusal has none of ours."""
    past, meter = walk.past, walk.meter
    tries = meter.attempts
    if meter.whole or (tries and tries[-1].outcome == AttemptOutcome.REFUSED):
        return None
    if meter.route is not None or past.ending is Ending.GONE:
        return ErrorCode(past.line.code) if past.line.code is not None else None
    if all(each.outcome in {AttemptOutcome.CONTEXT_OVERFLOW, AttemptOutcome.REFUSED} for each in tries):
        return None
    return ErrorCode.FALLBACK_EXHAUSTED if len(walk.routes) > 1 else ErrorCode.PROVIDER_UNAVAILABLE
