"""How callers script the test double, type-checked by mypy and pyright, and run once."""

import re
from typing import assert_type

from flatfee.testing import (
    OBEY,
    Asked,
    Gate,
    Raw,
    Reply,
    Rule,
    Tokens,
    ToolCall,
    anything,
    call,
    contains,
    matches,
    running_gateway,
)


def echo(asked: Asked) -> str:
    return asked.conversation.user or ""


def forecast(asked: Asked) -> Reply:
    return Reply(text=f"Turn {asked.conversation.turn}", delay=1)


def is_urgent(asked: Asked) -> bool:
    return "x-urgent" in asked.headers


def test_a_script_is_typed() -> None:
    with running_gateway(strict=True) as gateway:
        rule = gateway.script("Hi.", user="Hello", turn=1, name="greeting")
        assert_type(rule, Rule)
        assert_type(rule.asked, tuple[Asked, ...])
        assert_type(call("get_weather", {"city": "Lisbon"}, days=[1, 2]), ToolCall)
        gateway.script(
            Reply(tool_calls=[call("get_weather", city="Lisbon")], usage=Tokens(input=3), chunks=["a", "b"]),
            Reply(choices=[Reply(json={"a": [None]}), Reply(refusal="No.")], pace=0.1),
            Raw(chunks=[b"\xff", "text"], headers={"retry-after": "1"}),
            echo,
            forecast,
            OBEY,
            user=contains("weather"),
            system=matches(re.compile("brief")),
            tool_result={"get_weather": anything(), "get_time": None},
            headers={"x-tenant": lambda tenant: tenant.startswith("a")},
            messages=[{"role": "system"}, {"content": contains("x")}],
            body={"metadata": {"run": anything()}},
            turn=range(1, 3),
            attempt=[1, 2],
            when=is_urgent,
            times=9,
        )
        gate = gateway.gate()
        assert_type(gate, Gate)
        gateway.script(gate.then("late"), gate.then(forecast), workflow=None, first=True)
        assert [each.used for each in gateway.rules.rules] == [0, 0, 0]
