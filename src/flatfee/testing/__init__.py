"""The gateway as a test double: scripted, with a clock that can be moved, and a journal of what it was asked.

from flatfee.testing import running_gateway

with running_gateway(fair_use=1000) as gateway:
    client = flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url)
"""

from flatfee.testing.faults.edge import Edge
from flatfee.testing.faults.fault import Fault
from flatfee.testing.gateway import GatewayFactory, ScriptedGateway, running_gateway
from flatfee.testing.judging.calls import LogicalCall
from flatfee.testing.judging.checks.base import Limits, Violation
from flatfee.testing.judging.entry import Ending, Entry, RouteTry
from flatfee.testing.judging.journal import Journal
from flatfee.testing.judging.verdicts import Verdict
from flatfee.testing.options import Options
from flatfee.testing.running.clock import VirtualClock
from flatfee.testing.scripting.asked import Asked
from flatfee.testing.scripting.gates import Gate
from flatfee.testing.scripting.matchers import anything, contains, matches
from flatfee.testing.scripting.replies import OBEY, Raw, Reply, Tokens, ToolCall, call
from flatfee.testing.scripting.script import Rule
from flatfee.testing.scripting.strict import ScriptFailed, UnmatchedRequest
from flatfee.testing.tapes import TapeError, Tapes

__all__ = [
    "OBEY",
    "Asked",
    "Edge",
    "Ending",
    "Entry",
    "Fault",
    "Gate",
    "GatewayFactory",
    "Journal",
    "Limits",
    "LogicalCall",
    "Options",
    "Raw",
    "Reply",
    "RouteTry",
    "Rule",
    "ScriptFailed",
    "ScriptedGateway",
    "TapeError",
    "Tapes",
    "Tokens",
    "ToolCall",
    "UnmatchedRequest",
    "Verdict",
    "Violation",
    "VirtualClock",
    "anything",
    "call",
    "contains",
    "matches",
    "running_gateway",
]
