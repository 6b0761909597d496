"""Endpoints for the script: rules, and the gates that hold answers back."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import RootModel

from flatfee.testing.control.endpoint import Endpoint, Form, Json, Nothing, Visit, listed
from flatfee.testing.gateway import ScriptedGateway
from flatfee.testing.scripting.forms import read_rule
from flatfee.testing.scripting.gates import Gate
from flatfee.testing.scripting.script import Rule

_Written = dict[str, Any]


class _Rules(RootModel[_Written | list[_Written]]):
    """A rule, or several in their order: see ``forms.RuleForm``. ``gate`` names what holds its answers back."""

    def each(self) -> list[_Written]:
        """Return them as a list."""
        return self.root if isinstance(self.root, list) else [self.root]


class _Opened(Form):
    """To let the answers through. A gate that was opened stays open."""

    open: Literal[True] = True


class Gates:
    """The gates of one gateway, by name; one that is named first is made."""

    def __init__(self) -> None:
        self._made: dict[str, Gate] = {}

    def named(self, name: str) -> Gate:
        """Return a gate."""
        return self._made.setdefault(name, Gate())

    def known(self, name: str) -> Gate:
        """Return a gate that there is.

        Raises:
            LookupError: there is none.
        """
        if name not in self._made:
            message = f"There is no gate {name!r}; rules have: {', '.join(sorted(self._made)) or 'none'}."
            raise LookupError(message)
        return self._made[name]

    def forget(self) -> None:
        """Let go of what is held back, and make the gates anew."""
        while self._made:
            self._made.popitem()[1].open()

    def endpoints(self) -> tuple[Endpoint[Any], ...]:
        """Return the endpoints of the gateway's script and of these gates."""
        return _endpoints(self)


def _endpoints(gates: Gates) -> tuple[Endpoint[Any], ...]:
    def add(visit: Visit[_Rules]) -> Json:
        """All rules or none: the first that is wrong is told, and those before it are taken out again."""
        added: list[Rule] = []
        try:
            added.extend(_add(visit.gateway, written, gates) for written in visit.body.each())
        except (TypeError, ValueError) as error:
            for rule in added:
                rule.remove()
            raise ValueError(f"rules[{len(added)}]: {error}") from error
        return listed(map(_shown, added))

    def show_gate(visit: Visit[Nothing]) -> Json:
        return _gate(visit.names["name"], gates)

    def open_gate(visit: Visit[_Opened]) -> Json:
        gates.known(visit.names["name"]).open()
        return _gate(visit.names["name"], gates)

    return (
        Endpoint("GET", "/script", "The rules, in the order in which they are tried.", _list, Nothing),
        Endpoint("POST", "/script", "Add a rule, or several.", add, _Rules),
        Endpoint("DELETE", "/script", "Forget every rule.", _clear, Nothing),
        Endpoint("DELETE", "/script/{name}", "Take a rule out.", _remove, Nothing),
        Endpoint("GET", "/gates/{name}", "How many answers a gate holds back.", show_gate, Nothing),
        Endpoint("POST", "/gates/{name}", "Let them through.", open_gate, _Opened),
    )


def _add(gateway: ScriptedGateway, written: _Written, gates: Gates) -> Rule:
    gate = written.get("gate")
    form = read_rule({name: value for name, value in written.items() if name != "gate"})
    if gate is None:
        return form.add_to(gateway.rules)
    if not isinstance(gate, str):
        message = f"gate is {gate!r}; give it a name, and open it with POST /_test/gates/NAME."
        raise ValueError(message)  # noqa: TRY004 - told as every wrong value of a form
    return form.add_to(gateway.rules, behind=gates.named(gate))


def _shown(rule: Rule) -> Json:
    return {"object": "rule", "name": rule.name, "used": rule.used, "unsaid": rule.unsaid}


def _gate(name: str, gates: Gates) -> Json:
    gate = gates.known(name)
    return {"object": "gate", "name": name, "open": gate.is_open, "waiting": gate.waiting}


def _list(visit: Visit[Nothing]) -> Json:
    return listed(map(_shown, visit.gateway.rules.rules))


def _clear(visit: Visit[Nothing]) -> Json:
    visit.gateway.rules.clear()
    return listed([])


def _remove(visit: Visit[Nothing]) -> Json:
    name = visit.names["name"]
    rules = visit.gateway.rules.rules
    found = next((rule for rule in rules if rule.name == name), None)
    if found is None:
        message = f"There is no rule {name!r}; there are: {', '.join(rule.name for rule in rules) or 'none'}."
        raise LookupError(message)
    found.remove()
    return _shown(found)
