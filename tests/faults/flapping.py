"""Flapping under virtual time: a route that is down for a while, beside healthy ones or alone.

Each scene is a function of a seed and of the way in which routes are down, and returns what does not
hold. ``python -m tests.faults.flapping`` plays them at length; ``flapping_live`` does the same once on
raw sockets and in real time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

from tests.faults.outages import COOL_DOWNS, SLACK, Down, Outage, most_asks, text_of, watch
from tests.faults.scene import TOTAL, Scene, Seen
from tests.torture.results import Progress, Result, Violation, table

Run = Callable[[int], list[str]]


def beside_healthy_ones(seed: int, how: Down, seconds: float, *, routes: int = 2) -> list[str]:
    """Let the first of some routes go down for some seconds; return what does not hold."""
    start = 10.0 + random.Random(seed).uniform(0.0, 5.0)
    outage = Outage(route="first", how=how, start=start, end=start + seconds)
    scene = Scene(seed, routes, [outage])
    shortest, longest = 1.0, 5.0
    scene.play(lambda scene: scene.ask_now_and_then(outage.end + 90.0, shortest, longest))
    at_once = int(TOTAL / shortest) + 1 if how is Down.SILENT else 1
    return [
        *not_whole(scene),
        *spacing(scene),
        *untold(scene),
        *too_often(scene, outage, at_once),
        *not_used_again(scene, outage),
    ]


def flapping_fast(seed: int, how: Down, period: float = 5.0) -> list[str]:
    """Let the first of two routes be up and down by turns; return what does not hold."""
    outages = [
        Outage(route="first", how=how, start=turn * 2 * period, end=turn * 2 * period + period) for turn in range(1, 20)
    ]
    scene = Scene(seed, 2, outages)
    scene.play(lambda scene: scene.ask_now_and_then(outages[-1].end + 90.0, 0.3, 2.0))
    return [*not_whole(scene), *spacing(scene), *untold(scene), *not_used_again(scene, outages[-1])]


def two_at_once(seed: int, how: Down, and_how: Down) -> list[str]:
    """Let two of three routes go down and come back, their outages overlapping; return what does not hold."""
    rng = random.Random(seed)
    outages = [
        Outage(route=name, how=way, start=start, end=start + rng.uniform(20.0, 90.0))
        for name, way in (("first", how), ("second", and_how))
        for start in (10.0 + rng.uniform(0.0, 20.0), 150.0 + rng.uniform(0.0, 20.0))
    ]
    scene = Scene(seed, 3, outages)
    scene.play(lambda scene: scene.ask_now_and_then(350.0, 1.0, 4.0))
    return [*not_whole(scene), *spacing(scene), *untold(scene)]


def at_the_end_of_a_cool_down(seed: int, how: Down, *, up_again: bool, callers: int = 20) -> list[str]:
    """Ask many questions in the moment in which a route may be probed; return what does not hold."""
    scene = Scene(seed, 2, [Outage(route="first", how=how, start=0.0, end=1000.0)])
    probes: list[int] = []

    async def part(scene: Scene) -> None:
        while (free := watch(scene.provider.asked, "first")[0].open_until) is None:
            await scene.ask(stream=True)
        await scene.until(free + SLACK)
        before = len(scene.provider.asked)
        if up_again:
            scene.provider.outages = ()
        await asyncio.gather(*(scene.ask(stream=number % 2 == 0) for number in range(callers)))
        probes.append(sum(ask.route == "first" for ask in scene.provider.asked[before:]))

    scene.play(part)
    found = [] if probes == [1] else [f"{callers} questions at once led to {probes} probes"]
    return [*found, *not_whole(scene), *spacing(scene), *untold(scene)]


def alone(seed: int, how: Down, seconds: float) -> list[str]:
    """Let the only route go down, in front of one caller that waits as it is told; return what does not hold."""
    start = 10.0 + random.Random(seed).uniform(0.0, 5.0)
    outage = Outage(route="first", how=how, start=start, end=start + seconds)
    scene = Scene(seed, 1, [outage])
    found: list[str] = []

    async def part(scene: Scene) -> None:
        waited = False
        while scene.now() < outage.end + 100.0:
            before = len(scene.provider.asked)
            seen = await scene.ask(stream=scene.rng.random() < 0.7)
            if waited and len(scene.provider.asked) == before:
                found.append(f"{seen.question} waited as it was told, and got no try at {seen.asked:.2f}")
            waited = seen.retry_after is not None
            await asyncio.sleep(seen.retry_after or scene.rng.uniform(1.0, 5.0))

    scene.play(part)
    if scene.seen[-1].text is None:
        found.append(f"the last question got {scene.seen[-1].status} {scene.seen[-1].code}")
    return [*found, *not_clean(scene), *spacing(scene), *untold(scene), *too_often(scene, outage)]


def alone_in_a_crowd(seed: int, how: Down, seconds: float) -> list[str]:
    """Let the only route go down, in front of callers that come when they like; return what does not hold."""
    start = 10.0 + random.Random(seed).uniform(0.0, 5.0)
    outage = Outage(route="first", how=how, start=start, end=start + seconds)
    scene = Scene(seed, 1, [outage])
    scene.play(lambda scene: scene.ask_now_and_then(outage.end + 90.0, 0.2, 2.0))
    at_once = int(TOTAL / 0.2) + 1 if how is Down.SILENT else 3
    return [
        *not_clean(scene),
        *spacing(scene),
        *untold(scene),
        *too_often(scene, outage, at_once),
        *not_used_again(scene, outage),
    ]


def not_whole(scene: Scene) -> list[str]:
    """Every question gets its whole answer."""
    return [
        f"{seen.question}, asked at {seen.asked:.2f}, got {seen.status} {seen.code}: {seen.text!r}"
        for seen in scene.seen
        if seen.status != 200 or seen.text != "".join(text_of(seen.question))
    ]


def not_clean(scene: Scene) -> list[str]:
    """Every question gets its whole answer, or is told that the route is down and when to come again."""
    return [
        f"{seen.question}, asked at {seen.asked:.2f}, got {seen.status} {seen.code} {seen.retry_after}: {seen.text!r}"
        for seen in scene.seen
        if seen.text != "".join(text_of(seen.question)) and not _is_clean(seen)
    ]


def _is_clean(seen: Seen) -> bool:
    told_when = seen.status == 503 and seen.retry_after is not None and 1 <= seen.retry_after <= COOL_DOWNS[-1]
    in_mid_stream = seen.status == 200 and seen.text is None
    return seen.code == "provider_unavailable" and (told_when or in_mid_stream)


def spacing(scene: Scene) -> list[str]:
    """No route is asked while it is left alone, and none by two probes at once."""
    return [wrong for name in ("first", "second", "third") for wrong in watch(scene.provider.asked, name)[1]]


def untold(scene: Scene) -> list[str]:
    """What the receipts tell of attempts is what the provider saw."""
    told = sum(each["outcome"] != "unavailable" for seen in scene.seen for each in seen.receipt["attempts"])
    told += sum(ask.how is Down.REFUSED for ask in scene.provider.asked)  # a refusal is told as 'unavailable'
    saw = len(scene.provider.asked)
    return [] if told == saw else [f"the receipts tell of {told} attempts, and the provider saw {saw}"]


def too_often(scene: Scene, outage: Outage, at_once: int = 1) -> list[str]:
    """A route that is down is asked a bounded number of times."""
    asks = sum(ask.route == outage.route and outage.start <= ask.began < outage.end for ask in scene.provider.asked)
    most = most_asks(outage.end - outage.start, at_once)
    return [] if asks <= most else [f"{outage.route} was down, and was asked {asks} times, not {most}"]


def not_used_again(scene: Scene, outage: Outage) -> list[str]:
    """The first question after a route has recovered, and its cool-down is over, goes to it."""
    asked = [ask for ask in scene.provider.asked if ask.route == outage.route]
    late = max((ask.ended or 0.0 for ask in asked if ask.began < outage.end), default=0.0)
    kept, _ = watch(asked, outage.route, until=max(outage.end, late))
    free = max(outage.end, kept.open_until or 0.0)
    due = min(seen.asked for seen in scene.seen if seen.asked >= free + SLACK)
    used = min(ask.began for ask in asked if ask.whole and ask.began >= outage.end)
    return [] if used <= due + SLACK else [f"{outage.route} was up again and due at {due:.2f}, and used at {used:.2f}"]


SCENES: Final[Mapping[str, Callable[[Down], list[Run]]]] = {
    "beside a healthy route": lambda how: [
        partial(beside_healthy_ones, how=how, seconds=seconds) for seconds in (2.0, 25.0, 60.0, 200.0)
    ],
    "up and down every few seconds": lambda how: [partial(flapping_fast, how=how)],
    "two of three routes at once": lambda how: [partial(two_at_once, how=how, and_how=other) for other in Down],
    "a crowd when a cool-down ends": lambda how: [
        partial(at_the_end_of_a_cool_down, how=how, up_again=up_again) for up_again in (False, True)
    ],
    "alone, one patient caller": lambda how: [
        partial(alone, how=how, seconds=seconds) for seconds in (25.0, 60.0, 200.0)
    ],
    "alone, a crowd": lambda how: [partial(alone_in_a_crowd, how=how, seconds=seconds) for seconds in (60.0, 200.0)],
}


def play_all(name: str, seeds: range) -> Result:
    """Play one scene in each way, with each of the seeds."""
    runs = [(how, run, seed) for how in Down for run in SCENES[name](how) for seed in seeds]
    progress = Progress(name, len(runs))
    violations: list[Violation] = []
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.map(_play, [run for _, run, _ in runs], [seed for _, _, seed in runs], chunksize=20)
        for done, ((how, _, seed), texts) in enumerate(zip(runs, found, strict=True), 1):
            violations += [Violation(seed=seed, text=f"{how}: {text}") for text in texts]
            progress.at(done, len(violations))
    return Result(scenario=name, runs=len(runs), violations=tuple(violations))


def _play(run: Run, seed: int) -> list[str]:
    return run(seed)


def main() -> int:
    """Play every scene at length; return the exit status."""
    results = [play_all(name, range(10)) for name in SCENES]
    print(table(results))
    for result in results:
        for violation in result.violations[:10]:
            print(f"{result.scenario}: {violation}", file=sys.stderr)
    return int(any(result.violations for result in results))


if __name__ == "__main__":
    sys.exit(main())
