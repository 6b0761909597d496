"""The proof itself: what a replay says of each request against what the gateway does with it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.replays.providers import GUESS, Again, Hourly
from tests.replays.scenery import new, old, outages, plans_of
from tests.replays.stage import CHANCE, Say, Stage, with_accounts
from tests.replays.traffic import traffic

from flatfee.server.replaying.engine import Replay
from flatfee.server.replaying.guessing import Guess
from flatfee.server.replaying.past import Past, read_line
from flatfee.server.replaying.payers import Payers
from flatfee.server.settings import Settings


class _Agreed:
    """Guesses what the gateway's world answers, too."""

    def learn(self, past: Past) -> None:
        return

    def __call__(self, past: Past) -> Guess:
        del past
        return GUESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One comparison: ``mismatches`` holds what the gateway did and what the replay says. Times are in seconds."""

    name: str
    requests: int
    gateway: float
    replay: float
    mismatches: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...]
    seen: Counter[str]


def prove(
    seed: int, accounts: int, requests: int, days: int, outage_each: float, say: Say = lambda text: None
) -> list[Compared]:
    """Serve some days, replay them with the same configuration, and with a changed one against the gateway's own run.

    ``requests`` is about how many each account sends; every ``outage_each`` hours routes fail for a while.
    """
    askings = traffic(seed, accounts, requests, days)
    before = with_accounts(old(), plans_of(accounts))
    after = with_accounts(new(), plans_of(accounts))
    say(f"{len(askings):,} requests, as they are served")
    stage = Stage(before, say)
    began = time.perf_counter()
    served = stage.run(askings, Hourly(stage.clocks.wall, outages(days, outage_each)), hang_up=True)
    took = time.perf_counter() - began
    pasts = [past for line in served if isinstance(past := read_line(line), Past)]
    pasts.sort(key=lambda past: past.arrived)
    say("the same configuration, replayed")
    same = _compare("the same", before, pasts, served, took)
    say("the changed configuration, by the gateway")
    began = time.perf_counter()
    changed = Stage(after, say).run(askings, Again({past.id: past for past in pasts}), hang_up=False)
    took = time.perf_counter() - began
    say("the changed configuration, replayed")
    return [same, _compare("changed", after, pasts, changed, took)]


def _compare(name: str, settings: Settings, pasts: Sequence[Past], served: Sequence[bytes], took: float) -> Compared:
    truth = {line["request_id"]: _figures(line, line.get("code")) for line in map(json.loads, served)}
    replay = Replay(settings, Payers(settings=settings), guess=_Agreed(), dice=lambda _: lambda: CHANCE)
    seen: Counter[str] = Counter()
    wrong = []
    began = time.perf_counter()
    played = list(replay.run(pasts))
    replayed = time.perf_counter() - began
    for each in played:
        would = _figures(json.loads(each.json), each.result.code) if each.json else {}
        does = truth.pop(each.past.id, {})
        seen[str(does.get("code") or does.get("lane"))] += 1
        if would != does:
            wrong.append((each.past.id, does, would))
    wrong += [(name, does, {}) for name, does in truth.items() if does["code"] != "rate_limited"]
    return Compared(name=name, requests=len(pasts), gateway=took, replay=replayed, mismatches=tuple(wrong), seen=seen)


def _figures(receipt: Mapping[str, Any], code: str | None) -> dict[str, Any]:
    use = receipt.get("fair_use", {})
    return {
        "lane": receipt.get("lane"),
        "reason": receipt.get("reason"),
        "route": receipt.get("route"),
        "charged": use.get("charged"),
        "remaining": use.get("remaining"),
        "workflow": receipt.get("workflow"),
        "code": code,
    }
