"""What the SQLite store's statements read: an index, where a table can grow."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatfee.server.clocks import Moment
from flatfee.server.store.accounts import Page
from flatfee.server.store.book import ClaimKey, SlotKey
from flatfee.server.store.ledger import Balance
from flatfee.server.store.migrations import migrate
from flatfee.server.store.records import LedgerQuery
from flatfee.server.store.sqlite_book import SqliteBook
from flatfee.server.windows import Window


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


LISTINGS = {
    "of all": (LedgerQuery(), "SCAN receipts"),
    "of all, a page on": (LedgerQuery(after="r"), "SEARCH receipts USING PRIMARY KEY (request_id<?)"),
    "of an account, a page on": (
        LedgerQuery(account="acme", after="r"),
        "SEARCH receipts USING COVERING INDEX receipts_by_account (account=? AND request_id<?)",
    ),
    "of a project, a page on": (
        LedgerQuery(account="acme", project="ci", after="r"),
        "SEARCH receipts USING COVERING INDEX receipts_by_account (account=? AND request_id<?)",
    ),
    "of a project's lane": (
        LedgerQuery(account="acme", project="ci", lane="premium"),
        "SEARCH receipts USING COVERING INDEX receipts_by_account (account=?)",
    ),
    "of a project's workflow": (
        LedgerQuery(account="acme", project="ci", workflow="w"),
        "SEARCH receipts USING INDEX receipts_by_workflow (account=? AND workflow=?)",
    ),
    "of an account's workflow, a page on": (
        LedgerQuery(account="acme", workflow="w", after="r"),
        "SEARCH receipts USING COVERING INDEX receipts_by_workflow (account=? AND workflow=? AND request_id<?)",
    ),
}


@pytest.mark.parametrize(("query", "plan"), LISTINGS.values(), ids=LISTINGS)
def test_a_page_of_receipts_is_found_in_order_and_read_by_its_ids(
    book: Explaining, query: LedgerQuery, plan: str
) -> None:
    """The newest of all are the table's end: it is read from there, for as long as the page is."""
    book.kept_receipts(query)
    assert book.plan == ["SEARCH receipts USING PRIMARY KEY (request_id=?)", "LIST SUBQUERY 1", plan]


def test_what_a_window_was_charged_is_added_up_from_an_index_alone(book: Explaining) -> None:
    book.balance("acme", "token", Window(0, 100))
    assert "SEARCH receipts USING COVERING INDEX receipts_by_charge (account=? AND at>? AND at<?)" in book.plan


def test_a_page_of_keys_is_read_from_an_index_in_order(book: Explaining) -> None:
    book.keys("acme", None, Page(after="key_1"))
    assert not [step for step in book.plan if "TEMP B-TREE" in step or step.startswith("SCAN keys")]
    book.plan.clear()
    book.keys(None, None, Page())
    assert book.plan == ["SCAN keys USING INDEX keys_by_age"]


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
    book.slot_end("acme", 1.0, 2)
    book.request_end(key, 2)
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
