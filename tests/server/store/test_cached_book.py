"""The book that remembers, in lock-step with one that does not, whatever happens in whatever order.

The same transactions run over a ``CachedBook`` on one file and over a plain ``SqliteBook`` on another.
Beside them others write to the first file: this connection without the book, and another connection.
Transactions fail at any instruction of SQLite's. After each, the answers and all rows must be the same,
and what is remembered must be what the file holds.
"""

import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs
from tests.server.store.rows import make_known

from flatfee.receipt import Receipt
from flatfee.server.clocks import Moment
from flatfee.server.ids import request_id
from flatfee.server.keys import KeyKind
from flatfee.server.store import transactions
from flatfee.server.store.account_commands import ChangeAccount
from flatfee.server.store.accounts import Denied
from flatfee.server.store.base import StoreDown
from flatfee.server.store.book import OpenTicket, SlotKey
from flatfee.server.store.cached_book import CachedBook, _Account, _Slot
from flatfee.server.store.commands import administer
from flatfee.server.store.key_commands import ChangeKey, RevokeKey
from flatfee.server.store.ledger_commands import Refund
from flatfee.server.store.migrations import migrate
from flatfee.server.store.records import Caller, Idempotency, Offer, Outcome, Purse, Reservation, Terms, Ticket
from flatfee.server.store.sqlite import connect
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.windows import Calendar
from flatfee.wire import Billing, Lane, Reason, ReceiptState

Piece = Callable[[Any, Moment], Any]
START: Final = 1_793_534_400.0
OFFERS: Final = {
    Purse.FAIR_USE: Offer(lane=Lane.PREMIUM, reason=Reason.DEFAULT, purse=Purse.FAIR_USE),
    Purse.CONTINUATION: Offer(lane=Lane.CONTINUATION, reason=Reason.FAIR_USE_EXHAUSTED, purse=Purse.CONTINUATION),
    Purse.NONE: Offer(lane=Lane.BUDGET, reason=Reason.SMALL_TASK, purse=Purse.NONE),
}
CALENDARS: Final = {"pro": Calendar("1h", 1), "slow": Calendar("3h", 1)}
OWNERS: Final = [("acme", "ci"), ("acme", "ci"), ("acme", "web"), ("acme", None), ("beta", "ci")]
owners = st.sampled_from(OWNERS)
numbers = st.integers(0, 40)
workflows = st.sampled_from([None, None, "a", "b"])


def caller_of(owner: tuple[str, str | None], plan: str = "pro") -> Caller:
    account, project = owner
    return Caller(
        key_id=f"{account}/{project}",
        kind=KeyKind.PROJECT if project else KeyKind.TEAM,
        account=account,
        project=project,
        plan=plan,
        billing=Billing.ACTIVE,
        billing_day=1,
    )


def connected(path: Path) -> sqlite3.Connection:
    connection = connect(path, "process")
    connection.execute("PRAGMA synchronous = OFF")
    migrate(connection)
    return connection


def rows(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that a file holds, but for when keys were used: that is noted by each book for itself."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}
    found["keys"] = [row[:-1] for row in found["keys"]]
    return found


@dataclass(frozen=True)
class Failing:
    """Has a connection fail once, after so many of SQLite's instructions; ``None`` never.

    Not for a ``COMMIT``: SQLite looks for an interruption after it as well, and tells of one although it stands.
    """

    connection: sqlite3.Connection
    after: int | None

    def __enter__(self) -> None:
        if self.after is not None:
            left = iter([False] * self.after + [True])
            self.connection.set_progress_handler(lambda: next(left, False), 1)

    def __exit__(self, *_: object) -> None:
        self.connection.set_progress_handler(None, 1)


def answer(piece: Piece, book: Any, now: Moment) -> Any:
    try:
        return piece(book, now)
    except StoreDown as error:
        return type(error)


class Books(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        folder = Path(self.directory.name)
        self.mine, self.foreign = connected(folder / "cached.db"), connected(folder / "cached.db")
        self.other = connected(folder / "plain.db")
        self.cached, self.plain = CachedBook(self.mine), SqliteBook(self.other)
        self.slow, self.foreign_book = SqliteBook(self.mine), SqliteBook(self.foreign)
        self.now = Moment(START, 1000.0)
        self.tickets: list[Ticket] = []
        self.theirs: list[Ticket] = []
        self.plans = dict.fromkeys(("acme", "beta"), "pro")
        self.count = 0
        for book in (self.foreign_book, self.plain):
            for number, owner in enumerate(dict.fromkeys(OWNERS)):
                make_known(book, caller_of(owner), bytes([number]))

    def teardown(self) -> None:
        for connection in (self.mine, self.foreign, self.other):
            connection.close()
        self.directory.cleanup()

    # What a transaction is made of

    def reserving(self, data: st.DataObject) -> Piece:
        self.count += 1
        owner = data.draw(owners)
        caller = caller_of(owner, self.plans[owner[0]])
        wanted = data.draw(
            st.lists(st.tuples(st.sampled_from(list(Purse)), st.integers(0, 60)), min_size=1, max_size=3)
        )
        key, rate = data.draw(st.sampled_from([None, None, b"once"])), data.draw(st.sampled_from([None, None, 3]))
        want = Reservation(
            request_id=request_id(self.now.wall, lambda _: self.count),
            caller=caller,
            terms=Terms(
                unit=data.draw(st.sampled_from(["token", "token", "credit"])),
                fair_use=200,
                continuation_limit=100,
                workflows=4,
                fanout=2,
                idle=40.0,
                requests_per_minute=rate,
            ),
            calendar=CALENDARS[caller.plan],
            workflow=data.draw(workflows),
            offers=tuple(
                OFFERS[purse] if purse is Purse.NONE else structs.replace(OFFERS[purse], units=units)
                for purse, units in wanted
            ),
            model_requested="auto",
            lease=data.draw(st.sampled_from([60.0, 20.0])),
            idempotency=Idempotency(key=key, body=b"{}") if key is not None else None,
            reduced=data.draw(st.booleans()),
        )

        def reserve(book: Any, now: Moment) -> Any:
            found = transactions.reserve(book, want, now)
            if isinstance(found, Ticket):
                self.tickets.append(found)
            return found

        return reserve

    def ticket(self, number: int) -> Ticket:
        """One that was granted; the last ones are the likeliest to be open."""
        return self.tickets[-1 - number % len(self.tickets)]

    def dispatching(self, data: st.DataObject) -> Piece:
        number = data.draw(numbers)

        def dispatch(book: Any, _: Moment) -> None:
            if self.tickets:
                transactions.dispatch(book, self.ticket(number))

        return dispatch

    def settling(self, data: st.DataObject) -> Piece:
        number, charged, forged = data.draw(numbers), data.draw(st.integers(0, 80)), data.draw(st.integers(0, 9)) == 0
        answered, route = data.draw(st.booleans()), data.draw(st.sampled_from([None, "openai"]))

        def settle(book: Any, now: Moment) -> Any:
            if not self.tickets:
                return None
            ticket = self.ticket(number)
            if forged:
                ticket = replace(ticket, account="beta")
            receipt = Receipt(request_id=ticket.request_id, lane=Lane.PREMIUM, state=ReceiptState.SETTLED)
            units = 0 if ticket.offer.purse is Purse.NONE else charged
            outcome = Outcome(charged=units, receipt=receipt, route=route, answered=answered)
            return transactions.settle(book, ticket, outcome, now)

        return settle

    def living(self, data: st.DataObject) -> Piece:
        most, lease = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([60.0, 60.0, 10.0]))
        return lambda book, now: transactions.heartbeat(book, self.tickets[-most:], lease, now)

    def telling(self, data: st.DataObject) -> Piece:
        account, _ = data.draw(owners)
        calendar = data.draw(st.sampled_from(list(CALENDARS.values())))
        return lambda book, now: transactions.usage(book, account, "token", calendar, now)

    def sweeping(self, data: st.DataObject) -> Piece:
        return transactions.sweep

    def releasing(self, data: st.DataObject) -> Piece:
        key = SlotKey(*data.draw(owners), data.draw(st.sampled_from(["a", "b"])))
        return lambda book, now: transactions.release(book, key, now)

    def refunding(self, data: st.DataObject) -> Piece:
        number, units = data.draw(numbers), data.draw(st.sampled_from([None, 1, 30]))
        return lambda book, now: (
            self.tickets and administer(book, "me", Refund(request_id=self.ticket(number).request_id, units=units), now)
        )

    def replanning(self, data: st.DataObject) -> Piece:
        account, plan = data.draw(st.sampled_from(["acme", "beta"])), data.draw(st.sampled_from(list(CALENDARS)))

        def change(book: Any, now: Moment) -> Any:
            self.plans[account] = plan
            return administer(book, "me", ChangeAccount(name=account, plan=plan), now)

        return change

    def rekeying(self, data: st.DataObject) -> Piece:
        id_, expires = caller_of(data.draw(owners)).key_id, data.draw(st.sampled_from([None, 5.0, 1800.0]))
        if data.draw(st.integers(0, 9)) == 0:
            return lambda book, now: administer(book, "me", RevokeKey(id=id_), now)
        return lambda book, now: administer(
            book, "me", ChangeKey(id=id_, expires_at=None if expires is None else now.wall + expires), now
        )

    def pruning(self, data: st.DataObject) -> Piece:
        """Forget receipts of windows whose balances are forgotten too."""
        return lambda book, now: (transactions.sweep(book, now), book.prune(now.wall - 3 * 86_400, 3))

    # What may happen

    @rule(data=st.data(), size=st.integers(1, 6), fault=st.one_of(st.none(), st.none(), st.integers(0, 1500)))
    def remembered(self, data: st.DataObject, size: int, fault: int | None) -> None:
        """Several requests in one transaction over the book that remembers."""
        kinds = [self.reserving, self.reserving, self.dispatching, self.settling, self.settling, self.living]
        pieces = [data.draw(st.sampled_from([*kinds, self.telling]))(data) for _ in range(size)]
        before = list(self.tickets)
        try:
            with Failing(self.mine, fault):
                self.mine.execute("BEGIN IMMEDIATE")
                self.cached.begin()
                answers = [answer(piece, self.cached, self.now) for piece in pieces]
                self.cached.flush()
            self.mine.execute("COMMIT")
        except sqlite3.OperationalError:
            if self.mine.in_transaction:
                self.mine.execute("ROLLBACK")
            self.cached.rolled_back()
            self.tickets = before
            return
        self.cached.committed()
        self.tickets = before
        self.other.execute("BEGIN")
        assert answers == [answer(piece, self.plain, self.now) for piece in pieces]
        self.other.execute("COMMIT")
        self.what_is_remembered_is_in_the_file()

    @rule(data=st.data(), foreign=st.booleans(), fault=st.one_of(st.none(), st.none(), st.integers(0, 1500)))
    def beside_it(self, data: st.DataObject, foreign: bool, fault: int | None) -> None:
        """One piece of work by somebody who does not know the book."""
        if foreign:  # it works on its own tickets; ours it may only end once their leases ran out
            self.tickets, self.theirs = self.theirs, self.tickets
        try:
            self.one_piece(data, foreign, fault)
        finally:
            if foreign:
                self.tickets, self.theirs = self.theirs, self.tickets

    def one_piece(self, data: st.DataObject, foreign: bool, fault: int | None) -> None:
        usual = [self.reserving, self.dispatching, self.settling, self.living, self.sweeping, self.sweeping]
        rare = [self.releasing, self.refunding, self.replanning, self.rekeying, self.pruning]
        piece = data.draw(st.sampled_from([*usual, *rare]))(data)
        connection, book = (self.foreign, self.foreign_book) if foreign else (self.mine, self.slow)
        before, plans = list(self.tickets), dict(self.plans)
        try:
            found = self.alone(connection, book, piece, fault)
        except sqlite3.OperationalError:
            self.tickets, self.plans = before, plans
            return
        self.tickets = before
        assert found == self.alone(self.other, self.plain, piece)

    def alone(self, connection: sqlite3.Connection, book: SqliteBook, piece: Piece, fault: int | None = None) -> Any:
        connection.execute("BEGIN IMMEDIATE")
        try:
            with Failing(connection, fault):
                found = answer(piece, book, self.now)
            connection.execute("COMMIT")
        except Denied as error:
            found = type(error)
            connection.execute("ROLLBACK")
            book.rolled_back()
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            book.rolled_back()
            raise
        return found

    @rule(seconds=st.sampled_from([0.0, 0.5, 19.5, 20.0, 39.5, 60.0, 1800.0, 86_400.0]))
    def advance(self, seconds: float) -> None:
        self.now = Moment(self.now.wall + seconds, self.now.steady + seconds)

    @rule(wall=st.sampled_from([-3600.0, -1.0, 3600.0]), steady=st.sampled_from([0.0, 0.0, -30.0]))
    def set_the_clocks(self, wall: float, steady: float) -> None:
        """Where a system does not tell its boots apart, steady time is set too."""
        self.now = Moment(self.now.wall + wall, self.now.steady + steady)

    # What must hold after every step

    @invariant()
    def both_files_hold_the_same(self) -> None:
        mine, other = rows(self.foreign), rows(self.other)
        assert [(name, mine[name], other[name]) for name in mine if mine[name] != other[name]] == []

    @invariant()
    def balances_follow_from_their_entries(self) -> None:
        assert self.plain.disagreements() == []

    def what_is_remembered_is_in_the_file(self) -> None:
        fresh, now = CachedBook(self.foreign), self.now.steady
        for name, known in self.cached._accounts.items():
            read = fresh._read_account(name)
            assert known.balances == read.balances
            assert {key: told(slot) for key, slot in known.slots.items()} == {
                key: told(slot) for key, slot in read.slots.items()
            }
            assert known.flights is None or +known.flights == fresh._count_flights(name)
            if known.counted_at <= now < known.soonest:
                assert known.loose == fresh._active(name, _Account({}, {}), now)
        for id_, (ticket, time) in self.cached._own.items():
            assert time != self.cached._time or ticket == fresh.find_ticket(id_)
        (end,) = self.foreign.execute("SELECT min(expires_at) FROM tickets").fetchone()
        assert self.cached._first_end is None or end is None or self.cached._first_end <= end


def told(slot: _Slot) -> list[Any]:
    return [getattr(slot, name) for name in slot.__slots__]


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

AT_LENGTH = {"settings": settings(TestBooks.settings, max_examples=40, stateful_step_count=40)}
TestBooksAtLength = pytest.mark.slow(type("TestBooksAtLength", (Books.TestCase,), AT_LENGTH))


def a_ticket() -> OpenTicket:
    return OpenTicket(
        request_id="req_1",
        account="acme",
        project=None,
        workflow=None,
        lane=Lane.PREMIUM,
        reason=Reason.DEFAULT,
        purse=Purse.FAIR_USE,
        units=1,
        unit="token",
        model_requested="auto",
        at=START,
        expires_at=60.0,
    )


def test_a_caller_that_is_remembered_ends_with_its_key(tmp_path: Path) -> None:
    connection = connected(tmp_path / "ledger.db")
    book, caller = CachedBook(connection), caller_of(("acme", "ci"))
    make_known(book, caller, b"one")
    administer(book, "me", ChangeKey(id=caller.key_id, expires_at=START + 60), Moment(START, 0.0))
    assert book.caller(caller.key_id, START) == book.caller(caller.key_id, START + 59) == caller
    assert book.caller(caller.key_id, START + 60) is None
    connection.close()


def test_a_second_ticket_of_one_id_is_refused_before_it_is_counted_twice(tmp_path: Path) -> None:
    connection = connected(tmp_path / "ledger.db")
    book = CachedBook(connection)
    book.add_ticket(a_ticket())
    with pytest.raises(sqlite3.IntegrityError, match="req_1"):
        book.add_ticket(a_ticket())
    connection.close()


@pytest.mark.parametrize("at", [59.5, 60.0])
def test_a_lease_is_extended_until_it_ends(tmp_path: Path, at: float) -> None:
    extended = []
    for kind in (CachedBook, SqliteBook):
        connection = connected(tmp_path / f"{kind.__name__}.db")
        book = kind(connection)
        book.add_ticket(a_ticket())
        extended.append((book.extend_ticket("req_1", at, 90.0), book.slots("acme", None, 60.0).active))
        connection.close()
    assert extended[0] == extended[1] == (at < 60.0, int(at < 60.0))


def test_slots_are_counted_anew_when_a_clock_goes_back(tmp_path: Path) -> None:
    connection = connected(tmp_path / "ledger.db")
    book = CachedBook(connection)
    book.add_ticket(a_ticket())
    assert [book.slots("acme", None, now).active for now in (59.0, 60.0, 59.0)] == [1, 0, 1]
    connection.close()


def in_a_transaction(book: CachedBook, work: Callable[[], Any]) -> Any:
    connection = book._connection
    connection.execute("BEGIN IMMEDIATE")
    book.begin()
    found = work()
    book.flush()
    connection.execute("COMMIT")
    book.committed()
    return found


@pytest.mark.parametrize("ended", [True, False])
def test_a_ticket_that_another_process_ended_is_not_ended_again(tmp_path: Path, ended: bool) -> None:
    mine, foreign = connected(tmp_path / "ledger.db"), connected(tmp_path / "ledger.db")
    book, other = CachedBook(mine), SqliteBook(foreign)
    in_a_transaction(book, lambda: book.add_ticket(a_ticket()))
    if ended:
        assert other.take_ticket("req_1", "acme") is not None
    else:
        other.set_arrival("key", 1.0)  # it wrote something else
    assert in_a_transaction(book, lambda: book.mark_dispatched("req_1")) is not ended
    taken = in_a_transaction(book, lambda: book.take_ticket("req_1", "acme"))
    assert (taken is None) is ended
    assert other.find_ticket("req_1") is None
    mine.close()
    foreign.close()


def test_a_lease_that_another_process_gave_is_found_when_it_ends(tmp_path: Path) -> None:
    mine, foreign = connected(tmp_path / "ledger.db"), connected(tmp_path / "ledger.db")
    book, other = CachedBook(mine), SqliteBook(foreign)
    in_a_transaction(book, lambda: book.add_ticket(a_ticket()))
    assert in_a_transaction(book, lambda: book.expired_tickets(10.0)) == []
    theirs = structs.replace(a_ticket(), request_id="req_2", expires_at=20.0)
    other.add_ticket(theirs)
    assert in_a_transaction(book, lambda: book.expired_tickets(30.0)) == [theirs]
    mine.close()
    foreign.close()


@pytest.mark.parametrize("again", [39.0, 40.0], ids=["in time", "too late"])
def test_a_slot_is_taken_up_again_as_it_was_or_anew(tmp_path: Path, again: float) -> None:
    """While it is held, its begin and its route stay."""
    key, held = SlotKey("acme", None, "a"), []
    for kind in (CachedBook, SqliteBook):
        connection = connected(tmp_path / f"{kind.__name__}.db")
        book = kind(connection)
        book.hold_slot(key, Moment(START, 0.0), 40.0)
        book.touch_slot(key, 1.0, None, "openai")
        book.hold_slot(key, Moment(START + again, again), again + 40.0)
        book.slot_end("acme", 0.0, 1)  # writes what was kept
        held.append(connection.execute("SELECT * FROM slots").fetchall())
        connection.close()
    assert held[0] == held[1]
    assert len(held[0]) == 1
