"""What a gateway does in the background while it runs: leases extended, lost requests ended, old receipts forgotten."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from flatfee.server.gateway import LEASE_SECONDS, Gateway
from flatfee.server.store.base import StoreDown

log = logging.getLogger("flatfee.server")

SWEEP_SECONDS: Final = LEASE_SECONDS / 3
PRUNE_AT_ONCE: Final = 500
"""Receipts forgotten in one transaction: few enough that no request waits for it long."""

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
    """Forget some of the receipts that are older than the operator keeps them; the rest in the next rounds."""
    days = gateway.settings.receipts.retention_days
    if days is None:
        return
    gone = await gateway.store.prune(gateway.store.now() - days * _DAY, PRUNE_AT_ONCE)
    if gone:
        log.info("receipts.pruned", extra={"receipts": gone, "older_than_days": days})
