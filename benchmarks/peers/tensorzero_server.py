"""Runs TensorZero's gateway until it is told to end: ``python tensorzero_server.py CONFIG ADDRESS_FILE``.

Runs in TensorZero's own environment and imports nothing of ours. The gateway chooses its port itself: its address is
written to a file.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tensorzero.tensorzero import _start_http_gateway


def main(config: str, address_file: str) -> None:
    """Start, tell the address, wait for SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    gateway = _start_http_gateway(
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    unfinished = Path(f"{address_file}.part")
    unfinished.write_text(gateway.base_url)
    unfinished.rename(address_file)
    while True:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
