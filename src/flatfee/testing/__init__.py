"""The gateway as a test double: scripted, with a clock that can be moved, and a journal of what it was asked.

from flatfee.testing import running_gateway

with running_gateway(fair_use=1000) as gateway:
    client = flatfee.Client(api_key=gateway.api_key, base_url=gateway.base_url)
"""

from flatfee.testing.asked import Asked
from flatfee.testing.calls import LogicalCall
from flatfee.testing.checks.base import Limits, Violation
from flatfee.testing.clock import VirtualClock
from flatfee.testing.edge import Edge
from flatfee.testing.entry import Ending, Entry, RouteTry
from flatfee.testing.faults import Fault
from flatfee.testing.gates import Gate
from flatfee.testing.gateway import ScriptedGateway, running_gateway
from flatfee.testing.journal import Journal
from flatfee.testing.matchers import anything, contains, matches
from flatfee.testing.options import Options
from flatfee.testing.replies import OBEY, Raw, Reply, Tokens, ToolCall, call
from flatfee.testing.script import Rule
from flatfee.testing.strict import ScriptFailed, UnmatchedRequest
from flatfee.testing.tapes import TapeError, Tapes
from flatfee.testing.verdicts import Verdict

__all__ = [
    "OBEY",
    "Asked",
    "Edge",
    "Ending",
    "Entry",
    "Fault",
    "Gate",
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
