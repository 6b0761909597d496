"""What every suite shares: coroutines run on asyncio, unless a test chooses trio itself, and collection is cheap.

Suites mirror ``src/flatfee``: what tests ``client/retry.py`` is ``client/test_retry.py``. Those beside it: ``pair``
has our client, and other people's, against our gateway; ``typing`` what type checkers say; ``faults``, ``torture``,
``frameworks``, ``conformance`` and ``benchmarks`` are programs of their own, with tests. Rules of the repository are
in this folder.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Generator
from contextlib import suppress

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector off what stays until the end: all modules and tests.

    Else every collection, those that tests ask for above all, walks over a million objects again.
    """
    with suppress(ImportError):  # the environments of the frameworks have none
        hypothesis = importlib.import_module("hypothesis")  # it looks for objects that are frozen below
        hypothesis.settings.register_profile("unhurried", deadline=None)  # machines are slow and shared
        hypothesis.settings.load_profile("unhurried")
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
