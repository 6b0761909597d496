"""The pytest plugin: fixtures with a scripted gateway, and the marker ``flatfee`` that sets one up.

It is loaded in every run of everybody who has flatfee installed, so it stands outside of the package and imports
nothing but pytest until a fixture is asked for. What a gateway can do is in ``flatfee.testing``, not here.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from flatfee import AsyncClient, Client
    from flatfee.testing import GatewayFactory, ScriptedGateway

MARKER: Final = (
    "flatfee(**options): sets up the gateway of the fixture flatfee_gateway: plan, allowance, limits, routes; "
    "the keywords are the fields of flatfee.testing.Options. Those of a test win over those of its class, and "
    "those over its module's."
)

SECTION: Final = "flatfee: what the gateway was asked"

_GATEWAYS: Final = pytest.StashKey["list[ScriptedGateway]"]()
_Refused: Final = pytest.fail.Exception
"""A message alone, without the lines that raise it: where the plugin stands is of no use to a test's author."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def flatfee_gateways(request: pytest.FixtureRequest) -> Iterator[GatewayFactory]:
    """A function that starts gateways, each with the options it is given and apart from all others.

    one, other = flatfee_gateways(fair_use=1000), flatfee_gateways(). They end with the test.
    """
    try:
        from flatfee.testing import TapeError, UnmatchedRequest, running_gateway
    except ModuleNotFoundError as error:
        message = f"A flatfee gateway needs {error.name}. Install it: pip install 'flatfee[testing]'"
        raise _Refused(message, pytrace=False) from None

    started = request.node.stash.setdefault(_GATEWAYS, [])

    def start(**options: Any) -> ScriptedGateway:
        try:
            gateway = stack.enter_context(running_gateway(**options))
        except (ValueError, TapeError, OSError) as error:
            raise _Refused(f"A flatfee gateway cannot be set up so: {error}", pytrace=False) from None
        started.append(gateway)
        return gateway

    try:
        with ExitStack() as stack:
            yield start
    except UnmatchedRequest as error:  # whatever the code under test made of the refusal
        raise _Refused(str(error), pytrace=False) from None


@pytest.fixture
def flatfee_options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Options of flatfee_gateway, as the markers of the test, its class and its module give them.

    Override it for defaults, or for what is known only when a test runs: return {"fair_use": 1000, **flatfee_options}.
    """
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("flatfee"):
        if marker.args:
            message = f"@pytest.mark.flatfee takes keywords only, as in fair_use=1000; this one has {marker.args[0]!r}."
            raise _Refused(message, pytrace=False)
        options = {**marker.kwargs, **options}
    return options


@pytest.fixture
def flatfee_gateway(flatfee_gateways: GatewayFactory, flatfee_options: Mapping[str, Any]) -> ScriptedGateway:
    """A fresh gateway on loopback, with base_url and api_key, that does what the test says.

    Set it up with @pytest.mark.flatfee(fair_use=1000, ...). It ends with the test; connections that are open then
    are closed. A strict one fails the test if it had no rule for a request. When the test fails, the report lists what
    the gateway was asked.
    """
    return flatfee_gateways(**flatfee_options)


@pytest.fixture
def flatfee_env(flatfee_gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and key of flatfee_gateway in the environment, for code that looks there.

    FLATFEE_BASE_URL, FLATFEE_API_KEY, OPENAI_BASE_URL and OPENAI_API_KEY.
    """
    for name, value in flatfee_gateway.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def flatfee_client(flatfee_gateway: ScriptedGateway) -> Iterator[Client]:
    """A flatfee.Client of flatfee_gateway. Between tries it sleeps by the gateway's clock: nobody waits."""
    with flatfee_gateway.client() as client:
        yield client


@pytest.fixture
def flatfee_async_client(flatfee_gateway: ScriptedGateway) -> AsyncClient:
    """A flatfee.AsyncClient of flatfee_gateway, for any event loop: asyncio's and trio's, whichever plugin runs it.

    It speaks to the gateway in memory, so there is no connection that outlives its loop, and nothing to close.
    """
    return flatfee_gateway.async_client(memory=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what the gateways of a test that failed were asked."""
    report = yield
    gateways = item.stash.get(_GATEWAYS, [])
    if report.failed:
        report.sections += [(SECTION, _told(gateway, report.longreprtext)) for gateway in gateways]
    if report.when == "teardown":
        gateways.clear()
    return report


def _told(gateway: ScriptedGateway, shown: str) -> str:
    try:
        return f"{_missed(gateway, shown)}{gateway.journal.text()}"
    except Exception as error:  # noqa: BLE001  # what is raised here would end the whole run, not this test
        return f"The journal cannot be read: {type(error).__name__}: {error}"


def _missed(gateway: ScriptedGateway, shown: str) -> str:
    """Return what the script had no answer to, if the report does not show it: the test has failed, once is enough."""
    try:
        gateway.assert_all_matched()
    except AssertionError as error:
        where = traceback.format_exception(error.__cause__)[-2:] if error.__cause__ else []
        told = "".join([f"{error}\n", *where])
        return "" if told.partition("\n")[0] in shown and not where else f"{told}\n"
    return ""
