"""The operator of a simulated gateway, and the hand on its clock: what changes under running requests.

Plans, billing states and keys change, charges are given back, workflows are released, and the wall
clock is put forward or back by an hour, all while requests run.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from tests.torture.scenery import PLANS, SPARE_KEYS
from tests.torture.witness import Witness
from tests.torture.world import World

from flatfee.server.keys import KeyKind, digest
from flatfee.server.store.account_commands import ChangeAccount
from flatfee.server.store.accounts import Denied
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.store.commands import Command
from flatfee.server.store.key_commands import AddKey, RevokeKey
from flatfee.server.store.ledger_commands import Refund, ReleaseWorkflow
from flatfee.server.store.records import NewKey
from flatfee.wire import Billing

_JUMPS: Final = (-3600.0, 3600.0, -60.0, 61.0)


class Clerk:
    """Works on the ledger through a process of the gateway, as the admin API does."""

    def __init__(self, world: World, witness: Witness) -> None:
        self._world = world
        self._witness = witness
        self._keys: list[str] = []

    async def work(self, store: Store) -> None:
        """Do one thing, or fail to."""
        world = self._world
        if world.rng.random() < world.mood.jumps:
            seconds = world.rng.choice(_JUMPS)
            world.note("the wall clock jumps by", seconds)
            world.clocks.jump(seconds)
            return
        command = self._command()
        if command is None:
            return
        world.note("clerk:", command)
        with suppress(StoreDown, Denied, asyncio.CancelledError):
            await store.administer("clerk", command)

    def _command(self) -> Command[Any] | None:
        rng = self._world.rng
        account = rng.choice(("acme", "beta"))
        match rng.randrange(6):
            case 0:
                return ChangeAccount(name=account, plan=rng.choice(PLANS)["name"])
            case 1:
                return ChangeAccount(name=account, billing=rng.choice((*[Billing.ACTIVE] * 4, *Billing)))
            case 2:
                return ReleaseWorkflow(account=account, project="ci", workflow=rng.choice(("run-1", "run-2")))
            case 3 if self._witness.outcomes:
                return Refund(request_id=rng.choice(list(self._witness.outcomes)), units=rng.choice((None, 1, 5)))
            case 4 if self._keys:
                return RevokeKey(id=rng.choice(self._keys))
            case _:
                return self._new_key()

    def _new_key(self) -> Command[Any] | None:
        if len(self._keys) == len(SPARE_KEYS):
            return None
        secret = SPARE_KEYS[len(self._keys)]
        public = f"key_{len(self._keys):016d}"
        self._keys.append(public)
        key = NewKey(digest=digest(secret), name="spare", kind=KeyKind.TEAM, last4=secret[-4:], id=public)
        return AddKey(key=key, account="acme")
