"""``make policy-replay``: a month of 1,000 accounts, served by the gateway and replayed. Prints the figures."""

from __future__ import annotations

import argparse
import logging
import sys
import time

from tests.replays.proof import prove

_SHOWN = 5


def main() -> int:
    """Run the proof; 1 if a receipt differs, or a replay took a minute or more."""
    parser = argparse.ArgumentParser(prog="python -m tests.replays", description=__doc__)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=60, help="about how many each account sends")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--outages", type=float, default=24.0, help="hours from one bad time to the next")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable()  # the gateway tells of each failure that is played
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)

    found = prove(options.seed, options.accounts, options.requests, options.days, options.outages, say)
    failed = False
    print(f"{'configuration':<14} {'requests':>9} {'gateway':>9} {'replay':>9} {'each':>8} {'mismatches':>11}")
    for each in found:
        failed |= bool(each.mismatches) or each.replay >= 60
        figures = f"{each.gateway:>7.1f} s {each.replay:>7.1f} s {each.replay / each.requests * 1e6:>5.0f} us"
        print(f"{each.name:<14} {each.requests:>9,} {figures} {len(each.mismatches):>11,}")
    for each in found:
        for name, does, would in each.mismatches[:_SHOWN]:
            print(f"{each.name}: {name}\n  the gateway: {does}\n  the replay:  {would}")
    for each in found:
        print(f"{each.name}: " + ", ".join(f"{number:,} {what}" for what, number in each.seen.most_common()))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
