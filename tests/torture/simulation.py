"""The simulation: the whole pipeline under virtual time, with a fault at every ``await``.

The real app, stages and store rules run over a store, providers and callers that fail by chance.
A run is its seed: ``python -m tests.torture --seed N`` repeats one and tells its every step.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

from tests.torture import callers
from tests.torture.clerk import Clerk
from tests.torture.fickle import FickleProvider, FickleStore, Kept
from tests.torture.ledgers import InlineLoopStore, InlineSqliteStore, memory_store, rows_of
from tests.torture.results import Progress, Result, Violation, quiet
from tests.torture.scenery import IDLE, PLANS, settings
from tests.torture.virtual import Clocks, Stuck, VirtualLoop
from tests.torture.witness import Witness
from tests.torture.world import Process, World, make_task

from flatfee.server.app import App
from flatfee.server.gateway import LEASE_SECONDS, Gateway
from flatfee.server.housekeeping import SWEEP_SECONDS
from flatfee.server.ids import request_id
from flatfee.server.store.base import Store, StoreDown
from flatfee.server.worker import Worker

_EPOCHS: Final = (1_793_534_400.0, 1_793_534_400.0 + 5 * 3600 - 20.0, 1_796_083_190.0)
"""Some afternoon, half a minute before a window of hours ends, ten seconds before a month does."""

_UNTIL_CALM: Final = 200.0
_SMALLEST_GRACE: Final = 1.0
_BLOCK: Final = 50
_RESTARTS: Final = (0.0, 0.1, 1.0, 8.0, 70.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: what did not hold, and the trace if it was wanted."""

    seed: int
    violations: tuple[str, ...]
    trace: tuple[str, ...]
    steps: int


class _Simulation:
    """One run's gateway processes, callers and ledger."""

    def __init__(self, world: World, folder: Path, *, caching: bool = False) -> None:
        self.world = world
        rng = world.rng
        self._sqlite = folder / "ledger.db" if rng.random() < 0.25 or caching else None
        self._store = InlineLoopStore if caching else InlineSqliteStore
        self._memory = memory_store(world.clocks.wall, world.clocks.steady)
        self.witness = Witness(world, world.clocks.steady)
        self.up: list[tuple[Process, App]] = []
        self._over = asyncio.Event()
        self._number = 0
        self._told: dict[str, tuple[bytes, bytes]] = {}
        self._clerk = Clerk(world, self.witness)
        world.note("mood", world.mood, "on", "sqlite" if self._sqlite else "memory")

    async def live(self) -> None:
        """Run to the end, and to rest."""
        rng = self.world.rng
        workers = rng.choice((1, 1, 2))
        keepers = [asyncio.create_task(self._keep_up(Worker(number, workers))) for number in range(workers)]
        clerk = asyncio.create_task(self._change_things())
        async with asyncio.TaskGroup() as group:
            for _ in range(rng.randint(2, 4)):
                group.create_task(self._caller(rng.randint(1, 4)))
        clerk.cancel()
        self.world.calm = True
        self.world.note("calm")
        await asyncio.sleep(_UNTIL_CALM)  # what was begun and left ends, and a gateway is up again
        await asyncio.sleep(LEASE_SECONDS + SWEEP_SECONDS + IDLE + _SMALLEST_GRACE)
        store = self._open()
        self.witness.look(store)
        self.witness.at_rest(rows_of(store))
        await _close(store)
        self._over.set()
        await asyncio.gather(*keepers)

    def _open(self) -> Kept:
        clocks = self.world.clocks
        return self._store(self._sqlite, clocks.wall, clocks.steady) if self._sqlite else self._memory

    async def _keep_up(self, worker: Worker) -> None:
        """Run one process of the gateway, and another one whenever it has crashed."""
        while not self._over.is_set():
            process, store = Process(), self._open()
            main = process.spawn(self._serve(process, store, worker))
            await asyncio.wait({main})
            process.crash()
            if process.tasks:
                _, left = await asyncio.wait(set(process.tasks), timeout=1.0)
                for task in left:
                    self.world.violate(f"a crashed process goes on: {task}")
            await _close(store)
            if not self._over.is_set():
                await asyncio.sleep(self.world.rng.choice(_RESTARTS))

    async def _serve(self, process: Process, store: Kept, worker: Worker) -> None:
        world, rng = self.world, self.world.rng
        app = App(
            Gateway(
                settings=settings(
                    rng.choice(PLANS)["name"],
                    rng.choice(PLANS)["name"],
                    rng.choice((*["active"] * 8, "past_due", "suspended")),
                    rng.random() < 0.3,
                ),
                store=cast("Store", FickleStore(world, process, store, self.witness)),
                providers={"fickle": FickleProvider(world, process, self.witness)},
                monotonic=world.clocks.steady,
                chance=rng.random,
                new_id=partial(request_id, random_bits=rng.getrandbits),
                worker=worker,
            )
        )
        with suppress(StoreDown):
            async with app.running():
                world.note("up")
                self.up.append((process, app))
                try:
                    await self._over.wait()
                finally:
                    self.up.remove((process, app))

    async def _change_things(self) -> None:
        """Let the clerk work now and then."""
        world = self.world
        while True:
            await asyncio.sleep(world.rng.choice((0.01, 0.3, 2.0, 20.0)))
            if self.up and world.rng.random() < world.mood.clerk:
                process, app = world.rng.choice(self.up)
                work = process.spawn(self._clerk.work(app.gateway.store))
                await asyncio.wait({work})

    async def _caller(self, turns: int) -> None:
        """Ask one thing after another, and now and then several at once."""
        rng = self.world.rng
        for _ in range(turns):
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.05, 1.0, 15.0, 45.0)))
            while not self.up:  # noqa: ASYNC110 - the wait is virtual
                await asyncio.sleep(0.5)
            async with asyncio.TaskGroup() as group:
                for _ in range(rng.choice((1, 1, 1, 2, 4))):
                    group.create_task(self._ask(*rng.choice(self.up)))

    async def _ask(self, process: Process, app: App) -> None:
        world = self.world
        self._number += 1
        number = self._number
        if world.rng.random() < 0.15:
            await callers.serve(world, process, app, callers.question_of(world, process), number)
            return
        exchange = callers.completion_of(world, process, number)
        await callers.serve(world, process, app, exchange, number)
        if exchange.whole:
            self._check_repeat(exchange)
            receipt = callers.check_answer(world, exchange, number)
            if receipt is not None and "request_id" not in receipt:
                world.violate(f"request {number} shows a receipt of no request")
            elif receipt is not None:
                self.witness.shown[receipt["request_id"]] = receipt
                if exchange.hurried:
                    self.witness.hurried.add(receipt["request_id"])

    def _check_repeat(self, exchange: callers.Exchange) -> None:
        """Whatever is answered under one request id is the same each time."""
        request_id = exchange.headers.get("x-flatfee-request-id", "")
        if exchange.status != 200:
            return
        asked, answer = self._told.setdefault(request_id, (exchange.asked, exchange.body))
        if answer != exchange.body:
            self.world.violate(f"{request_id} was answered again, and otherwise")
        if asked != exchange.asked:
            self.world.violate(f"{request_id} was the answer to two requests that are not the same")


async def _close(store: Kept) -> None:
    if isinstance(store, InlineSqliteStore):
        store.drop()


def simulate(seed: int, *, trace: bool = False, caching: bool = False) -> Run:
    """Run one seed; with ``caching`` over the file and the book that remembers, whatever the seed says."""
    loop = VirtualLoop()
    loop.set_task_factory(make_task)
    loop.set_exception_handler(lambda _, context: None)  # tasks of crashed processes end in anything
    clocks = Clocks(loop.time, _EPOCHS[seed % len(_EPOCHS)])
    world = World(seed, clocks, trace=trace)

    with quiet(), tempfile.TemporaryDirectory() as folder:
        try:
            loop.run_until_complete(_live(world, Path(folder), caching=caching))
        except Stuck:
            world.violate("everybody waits for ever")
        except ExceptionGroup as errors:
            world.violate(f"the simulation itself failed: {errors.exceptions!r}")
        finally:
            loop.close()
    lines = tuple(f"{at - 1000:10.3f} {' '.join(map(str, what))}" for at, what in world.notes)
    return Run(seed=seed, violations=tuple(world.violations), trace=lines, steps=len(world.notes))


async def _live(world: World, folder: Path, *, caching: bool) -> None:
    await _Simulation(world, folder, caching=caching).live()


def simulate_many(seeds: range) -> Result:
    """Run many seeds in as many processes as there are cores."""
    progress = Progress("simulation", len(seeds))
    violations: list[Violation] = []
    blocks = [seeds[start : start + _BLOCK] for start in range(0, len(seeds), _BLOCK)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, found in enumerate(pool.map(_block, blocks), 1):
            violations += found
            progress.at(min(done * _BLOCK, len(seeds)), len(violations))
    return Result(scenario="simulation", runs=len(seeds), violations=tuple(violations))


def _block(seeds: range) -> list[Violation]:
    return [Violation(seed=seed, text=text) for seed in seeds for text in simulate(seed).violations]
