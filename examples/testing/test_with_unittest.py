"""The agent under unittest: a gateway for each test, which ends with it. Run it with `python -m unittest`."""

from __future__ import annotations

import unittest

from agent import report
from flatfee.testing import Fault, running_gateway


class AgentTest(unittest.TestCase):
    def setUp(self) -> None:
        self.gateway = self.enterContext(running_gateway(concurrent_workflows=2))
        self.client = self.gateway.client()

    def test_third_run_at_once_is_refused(self) -> None:
        self.gateway.workflows.hold(2)
        self.assertEqual(report(self.client, "Lisbon").status, "busy")

    def test_outage_is_told(self) -> None:
        self.gateway.script(Fault.unreachable())
        self.assertEqual(report(self.client, "Lisbon").status, "outage")
