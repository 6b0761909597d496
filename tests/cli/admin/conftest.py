"""A ledger to administer, reached in both ways: in the command's own process, and at a gateway that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import Result

from flatfee import Client
from flatfee.cli.demo.gateway import DemoGateway, running_gateway

if TYPE_CHECKING:
    from tests.cli.conftest import Flatfee

SECRET = "an-operators-secret-with-forty-characters"

CONFIG = """
providers = [{{name = "sim", kind = "simulated"}}]
routes = [
    {{name = "sim-premium", provider = "sim", model = "sim-large", tier = "premium"}},
    {{name = "sim-economy", provider = "sim", model = "sim-small", tier = "economy"}},
]
plans = [{{name = "pro", fair_use = 100000}}, {{name = "small", fair_use = 500, window = "7d"}}]
server = {{store = "sqlite:///{folder}/ledger.db", port = 0}}
"""


@dataclass
class Operator:
    """Runs commands of an operator, with the options and the environment that lead to the ledger."""

    flatfee: Flatfee
    options: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> Result:
        return self.flatfee(*arguments, *self.options, env=self.env)

    def do(self, *arguments: str) -> str:
        """Run a command that must succeed, and return what it wrote to standard output."""
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    def told(self, *arguments: str) -> Any:
        """Return the JSON that a command writes."""
        return json.loads(self.do(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """Run a command that must be refused, and return what it wrote to standard error."""
        done = self.run(*arguments)
        assert (done.exit_code, done.stdout) == (1, ""), done.output
        return done.stderr


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def served(config: Path) -> Iterator[DemoGateway]:
    """A gateway that runs on the configuration, and has an operator's secret in its environment."""
    with running_gateway(config.read_text(), {"FLATFEE_ADMIN_KEY": SECRET}) as gateway:
        yield gateway


@pytest.fixture
def local(flatfee: Flatfee, config: Path) -> Operator:
    """An operator who works on the ledger's file."""
    return Operator(flatfee, ("--config", str(config)))


@pytest.fixture
def remote(flatfee: Flatfee, served: DemoGateway) -> Operator:
    """An operator who works on a gateway that runs."""
    return Operator(flatfee, ("--url", served.url.removesuffix("/v1")), {"FLATFEE_ADMIN_KEY": SECRET})


@pytest.fixture(params=["local", pytest.param("remote", marks=pytest.mark.slow)])
def operator(request: pytest.FixtureRequest) -> Operator:
    """Both, one after the other: no command may know which."""
    found: Operator = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def acme(operator: Operator) -> Operator:
    """An operator with an account and a project."""
    operator.do("accounts", "create", "acme", "--plan", "pro")
    operator.do("projects", "create", "acme", "ci")
    return operator


@pytest.fixture
def here(local: Operator) -> Operator:
    """The same on the ledger's file alone, for what does not depend on the way."""
    local.do("accounts", "create", "acme", "--plan", "pro")
    local.do("projects", "create", "acme", "ci")
    return local


def ask(served: DemoGateway, key: str) -> str:
    """Ask for a completion with a key; return the request's id."""
    with Client(api_key=key, base_url=served.url, max_retries=0) as client:
        answer = client.chat.completions.create(messages=[{"role": "user", "content": "Hello"}], model="premium")
    assert answer.receipt
    assert answer.receipt.request_id
    return answer.receipt.request_id
