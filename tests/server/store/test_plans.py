"""What the SQLite store's statements read: an index, where a table can grow."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.clocks import Moment
from flatfee.server.keys import KeyKind
from flatfee.server.store.book import ClaimKey, SlotKey
from flatfee.server.store.ledger import Balance
from flatfee.server.store.migrations import migrate
from flatfee.server.store.records import Caller, ReceiptQuery
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.windows import Window
from flatfee.wire import Billing


class Explaining(SqliteBook):
    """A book that notes how each of its statements is run."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.plan: list[str] = []

        def execute(sql: str, values: Any = ()) -> sqlite3.Cursor:
            self.plan += [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
            return connection.execute(sql, values)

        self._execute = execute


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Explaining]:
    connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    migrate(connection)
    yield Explaining(connection)
    connection.close()


def caller(project: str | None) -> Caller:
    kind = KeyKind.PROJECT if project else KeyKind.TEAM
    return Caller(
        key_id="k", kind=kind, account="acme", project=project, plan="pro", billing=Billing.ACTIVE, billing_day=1
    )


LISTINGS = {
    "of a project": ("ci", ReceiptQuery(), "receipts_by_project (account=? AND project=?)"),
    "a page on": ("ci", ReceiptQuery(after="r"), "receipts_by_project (account=? AND project=? AND request_id<?)"),
    "of a lane": ("ci", ReceiptQuery(lane="premium"), "receipts_by_project (account=? AND project=?)"),
    "of a workflow": ("ci", ReceiptQuery(workflow="w"), "receipts_by_workflow (account=? AND workflow=?)"),
    "of a workflow, a page on": (
        "ci",
        ReceiptQuery(workflow="w", after="r"),
        "receipts_by_workflow (account=? AND workflow=? AND request_id<?)",
    ),
    "of an account": (None, ReceiptQuery(), "receipts_by_account (account=?)"),
    "of an account, a page on": (None, ReceiptQuery(after="r"), "receipts_by_account (account=? AND request_id<?)"),
    "of an account's workflow, a page on": (
        None,
        ReceiptQuery(workflow="w", after="r"),
        "receipts_by_workflow (account=? AND workflow=? AND request_id<?)",
    ),
}


@pytest.mark.parametrize(("project", "query", "index"), LISTINGS.values(), ids=LISTINGS)
def test_a_page_of_receipts_is_read_from_an_index_in_order(
    book: Explaining, project: str | None, query: ReceiptQuery, index: str
) -> None:
    """No sort, and no reading past what was listed before."""
    book.list_receipts(caller(project), query)
    first, *others = book.plan
    assert first == f"SEARCH receipts USING INDEX {index}"
    assert others == [
        "CORRELATED SCALAR SUBQUERY 1",
        "SEARCH a USING COVERING INDEX adjustments_by_request (request_id=?)",
    ]


def test_no_table_is_scanned_to_admit_to_settle_or_to_find_what_was_lost(book: Explaining) -> None:
    key = SlotKey("acme", "ci", "run")
    book.hold_slot(key, Moment(0.0, 0.0), 60.0)
    book.balance("acme", "token", Window(0, 100))
    book.shift_balance("acme", "token", 1.0, Balance(posted=1))
    book.take_ticket("req_1", "acme")
    book.claim(ClaimKey("acme", "ci", b"key"))
    book.drop_claims(1.0)
    book.kept_receipt("req_1")
    book.adjustments("req_1")
    book.prune(1.0, 10)
    book.slots("acme", key, 1.0)
    book.touch_slot(key, 1.0, 70.0, "openai")
    book.expired_tickets(1.0)
    book.live_file_keys()
    book.live_keys("acme", None)
    book.caller("key", 1.0)
    book.used("key", 1.0)
    steps = {step for step in book.plan if not step.startswith("SEARCH")}
    assert [step for step in steps if "SCAN" in step and "CONSTANT" not in step and "SCAN (subquery" not in step] == []
    assert (
        "SEARCH tickets USING COVERING INDEX tickets_by_workflow (account=? AND workflow=? AND project=?)" in book.plan
    )
