"""What a gateway does in the background while it runs: leases extended, lost requests ended, old receipts forgotten."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from flatfee.server.gateway import LEASE_SECONDS, Gateway
from flatfee.server.store.base import StoreDown

log = logging.getLogger("flatfee.server")

SWEEP_SECONDS: Final = LEASE_SECONDS / 3
PRUNE_AT_ONCE: Final = 100
"""Receipts forgotten in one transaction: few enough that no request waits for it long (13 ms in a ledger of 10 GB)."""
PRUNES_IN_A_ROUND: Final = 250
"""Transactions of that in one round: more receipts than can come meanwhile, and the next heartbeat is in time."""

_DAY: Final = 86_400.0


async def keep_house(gateway: Gateway) -> None:
    """Work until cancelled. What fails once is tried again: leases must be extended and swept."""
    while True:
        try:
            await gateway.store.heartbeat(list(gateway.running.values()), LEASE_SECONDS)
            lost = await gateway.store.sweep()
            if lost:
                log.warning("ledger.swept", extra={"requests": lost})
            await _prune(gateway)
        except StoreDown as error:
            log.warning("store.down", extra={"error": str(error)})
        except Exception as error:  # noqa: BLE001 - see above
            log.error("housekeeping.failed", extra={"error": type(error).__name__})  # noqa: TRY400 - its text may quote
        await asyncio.sleep(SWEEP_SECONDS)


async def _prune(gateway: Gateway) -> None:
    """Forget receipts that are older than the operator keeps them; of very many, the rest in the next round."""
    days = gateway.settings.receipts.retention_days
    if days is None:
        return
    before, gone = gateway.store.now() - days * _DAY, 0
    for _ in range(PRUNES_IN_A_ROUND):
        some = await gateway.store.prune(before, PRUNE_AT_ONCE)
        gone += some
        if some < PRUNE_AT_ONCE:
            break
        await asyncio.sleep(0)  # the memory store works on the event loop: let requests in between
    if gone:
        log.info("receipts.pruned", extra={"receipts": gone, "older_than_days": days})
