"""The pytest plugin: fixtures with a scripted gateway, and the marker ``flatfee`` that sets one up.

It is loaded in every run of everybody who has flatfee installed, so it stands outside of the package and imports
nothing but pytest until a fixture is asked for. What a gateway can do is in ``flatfee.testing``, not here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

if TYPE_CHECKING:
    from flatfee.testing import ScriptedGateway

MARKER: Final = (
    "flatfee(**options): sets up the gateway of the fixture flatfee_gateway: plan, allowance, limits, routes; "
    "the keywords are the fields of flatfee.testing.Options. Those of a test win over those of its class, and "
    "those over its module's."
)


class GatewayFactory(Protocol):
    """What the fixture ``flatfee_gateways`` is."""

    def __call__(self, **options: Any) -> ScriptedGateway:
        """Start a gateway that ends with the test. The options are those of ``flatfee.testing.Options``."""
        ...


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def flatfee_gateways() -> Iterator[GatewayFactory]:
    """A function that starts gateways, each with the options it is given and apart from all others.

    one, other = flatfee_gateways(fair_use=1000), flatfee_gateways(). They end with the test.
    """
    from flatfee.testing import running_gateway

    with ExitStack() as stack:

        def start(**options: Any) -> ScriptedGateway:
            return stack.enter_context(running_gateway(**_known(options)))

        yield start


@pytest.fixture
def flatfee_options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """Options of flatfee_gateway, as the markers of the test, its class and its module give them.

    Override it for defaults, or for what is known only when a test runs: return {"fair_use": 1000, **flatfee_options}.
    """
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("flatfee"):
        if marker.args:
            _refuse(f"@pytest.mark.flatfee takes keywords only, as in fair_use=1000; this one has {marker.args[0]!r}.")
        options = {**marker.kwargs, **options}
    return options


@pytest.fixture
def flatfee_gateway(flatfee_gateways: GatewayFactory, flatfee_options: Mapping[str, Any]) -> ScriptedGateway:
    """A fresh gateway on loopback, with base_url and api_key, that does what the test says.

    Set it up with @pytest.mark.flatfee(fair_use=1000, ...). It ends with the test; connections that are open then
    are closed.
    """
    return flatfee_gateways(**flatfee_options)


def _known(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options; fail where one is none, and name the nearest that is."""
    import difflib
    from dataclasses import fields

    from flatfee.testing import Options

    names = [field.name for field in fields(Options)]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            cure = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted(names))}."
            _refuse(f"Unknown option {name!r} of a flatfee gateway. {cure}")
    return options


def _refuse(message: str) -> None:
    """Fail with a message alone: where the plugin stands is of no use to a test's author."""
    pytest.fail(message, pytrace=False)
