"""Values that pass between the stages and a store. Frozen; no behaviour but small derived facts.

What every request makes anew is a struct: one of ten fields takes 0.3 us to make, as a dataclass 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from flatfee.receipt import Receipt
from flatfee.server.asked import Beside
from flatfee.server.keys import KeyKind, new_key_id
from flatfee.server.statement import Statement
from flatfee.server.windows import Calendar, Window
from flatfee.wire import Billing, ErrorCode, Lane, Reason, ReceiptDetail


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key to be kept: its digest and what people may see of it, never the secret."""

    digest: bytes
    name: str
    kind: KeyKind
    last4: str
    models: frozenset[str] | None = None
    expires_at: float | None = None
    id: str = field(default_factory=new_key_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProject:
    """A project to be made if absent, with its keys."""

    name: str
    keys: tuple[NewKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account to be made if absent, with its projects."""

    name: str
    plan: str
    billing: Billing
    billing_day: int
    projects: tuple[NewProject, ...] = ()


class Caller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who asks: what a valid key stands for. ``project`` is ``None`` for a team key.

    ``receipts`` is what the project says of its receipts; ``None``: as the configuration says.
    An admin key stands for no account: ``account`` and ``plan`` are empty.
    """

    key_id: str
    kind: KeyKind
    account: str
    project: str | None
    plan: str
    billing: Billing
    billing_day: int
    models: frozenset[str] | None = None
    receipts: ReceiptDetail | None = None


class Purse(StrEnum):
    """Which balance an offer draws on."""

    FAIR_USE = "fair_use"
    CONTINUATION = "continuation"
    NONE = "none"


class Offer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One lane a request could take, and what it would hold back. Units are of the plan's meter."""

    lane: Lane
    reason: Reason
    purse: Purse
    units: int = 0


class Terms(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the caller's plan allows, as the store needs it."""

    unit: str
    fair_use: int
    continuation_limit: int | None
    workflows: int
    fanout: int
    idle: float
    requests_per_minute: int | None


class Idempotency(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An idempotency key that came with a request: digests of the key and of the body.

    ``holder`` names the process that will keep the answer.
    """

    key: bytes
    body: bytes
    holder: str = ""


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to be admitted: the first of ``offers`` that fits is granted. ``lease`` is in seconds.

    The window is the one of ``calendar`` that holds the moment of the reservation, by the store's
    clock. With ``reduced`` the kept receipt tells figures only. With ``early`` a ticket may be told before
    it is sure to stay: one that was lost cannot be dispatched, and holds nothing.
    """

    request_id: str
    caller: Caller
    terms: Terms
    calendar: Calendar
    workflow: str | None
    offers: tuple[Offer, ...]
    model_requested: str
    lease: float
    idempotency: Idempotency | None = None
    reduced: bool = False
    early: bool = False


class Standing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an account stands right after a ledger operation."""

    unit: str
    remaining: int
    limit: int
    resets_at: int
    workflows_active: int
    workflows_limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A granted reservation. ``choice`` is the index of the offer that was granted; ``created_at`` is wall time."""

    request_id: str
    account: str
    project: str | None
    workflow: str | None
    choice: int
    offer: Offer
    terms: Terms
    window: Window
    created_at: float
    standing: Standing
    reduced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A reservation that was not granted. ``retry_after`` is in whole seconds, if waiting helps."""

    code: ErrorCode
    standing: Standing
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """The key or its account is another than when the caller was looked up: plan anew with this one.

    ``None``: the key is no longer valid. Nothing was reserved or counted.
    """

    caller: Caller | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """The idempotency key belongs to a request that has ended: ``receipt`` tells of it as JSON.

    ``holder`` names the process that may still keep its answer.
    """

    request_id: str
    holder: str
    receipt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request ended: what to charge, and its receipt but for the figures only the store knows.

    ``charged`` goes to the balance that the ticket's offer drew on. ``route`` is remembered for
    the workflow's tool loop. ``answered`` says that the answer was whole: then its idempotency key
    stays used even if nothing was charged. ``beside`` is kept with the receipt, and not told to the caller.
    """

    charged: int
    receipt: Receipt | Statement
    route: str | None = None
    answered: bool = False
    beside: Beside | None = None


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The final account of a request as JSON. Settling again tells what was kept.

    ``remaining``: the units of fair-use that are left after it, where it was settled in time, and only now.
    """

    json: bytes
    remaining: int | None = None

    @property
    def receipt(self) -> Receipt:
        """The receipt, read from its JSON: of a usual request, nobody asks for it."""
        return Receipt.model_validate_json(self.json)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """An account's use of its window."""

    window: Window
    fair_use_used: int
    fair_use_pending: int
    continuation_used: int
    continuation_pending: int
    workflows_active: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowLease:
    """A live slot and its owner; without a project, a team key's. Times are seconds since the epoch."""

    id: str
    account: str
    project: str | None
    in_flight: int
    started_at: float
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptQuery:
    """Which receipts to list, newest first: at most ``limit``, older than the id ``after``."""

    workflow: str | None = None
    lane: str | None = None
    limit: int = 20
    after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerQuery(ReceiptQuery):
    """Which receipts of the whole ledger to list: of an account, or of one of its projects, or all.

    ``oldest_first`` turns the order around: then they are newer than the id ``after``.
    """

    account: str | None = None
    project: str | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedReceipt:
    """A receipt as JSON, and whose it is."""

    account: str
    project: str | None
    json: bytes
