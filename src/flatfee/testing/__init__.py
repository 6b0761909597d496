"""The gateway as a test double: scripted, with a clock that can be moved, and a journal of what it was asked.

from flatfee.testing import running_gateway

with running_gateway(fair_use=1000) as gateway:
    client = flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url)
"""

from flatfee.testing.clock import VirtualClock
from flatfee.testing.gateway import ScriptedGateway, running_gateway
from flatfee.testing.options import Options

__all__ = ["Options", "ScriptedGateway", "VirtualClock", "running_gateway"]
