"""What every suite shares: coroutines run on asyncio, unless a test chooses trio itself."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
