"""The default model as a test meets it: it obeys, and what it refuses reaches the client as a refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel, Field

import flatfee
from flatfee.testing import OBEY, ScriptedGateway, running_gateway

HELLO = [{"role": "user", "content": "Hello"}]
CONTRADICTION = {
    "type": "json_schema",
    "json_schema": {"name": "it", "schema": {"type": "integer", "minimum": 3, "maximum": 2}},
}


class Order(BaseModel):
    number: str = Field(pattern=r"^[A-Z]{2}-\d{4}$")
    lines: list[str] = Field(min_length=2)


@pytest.fixture(params=["unscripted", "scripted"])
def gateway(request: pytest.FixtureRequest) -> Iterator[ScriptedGateway]:
    with running_gateway() as gateway:
        if request.param == "scripted":
            gateway.script(OBEY, OBEY)
        yield gateway


def test_answers_the_type_that_is_asked_for(gateway: ScriptedGateway) -> None:
    with gateway.client(memory=True) as client:
        found = client.chat.completions.parse(model="auto", messages=HELLO, response_format=Order)
    assert found.choices[0].message.parsed == Order(number="AA-0000", lines=["text", "text"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_names_place_and_cure(gateway: ScriptedGateway, stream: bool) -> None:
    with gateway.client(memory=True) as client, pytest.raises(flatfee.BadRequestError) as raised:
        list(client.chat.completions.create(model="auto", messages=HELLO, response_format=CONTRADICTION, stream=stream))
    assert raised.value.code == "invalid_json_schema"
    assert raised.value.param == "response_format"
    assert "no value was found that fits type, minimum, maximum at once" in str(raised.value)
