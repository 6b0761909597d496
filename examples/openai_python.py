"""openai-python, unmodified, against the gateway. The receipt is in a field that it keeps.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py. Needs `pip install openai`.
"""

import os

from openai import NotFoundError, OpenAI

from flatfee import Receipt

with OpenAI(base_url=os.environ["FLATFEE_BASE_URL"], api_key=os.environ["FLATFEE_API_KEY"]) as client:
    completion = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Name three colours."}],
        extra_headers={"x-flatfee-workflow": "openai-example", "x-flatfee-task": "review"},
    )
    print(completion.choices[0].message.content)

    raw = (completion.model_extra or {})["flatfee"]
    print("lane:", raw["lane"], "| charged:", raw["fair_use"]["charged"])

    # The same with types; it takes completions, exceptions and responses alike.
    receipt = Receipt.of(completion)
    if receipt:
        print(receipt.explain())

    try:
        client.models.retrieve("gpt-9")
    except NotFoundError as error:
        print("openai.NotFoundError:", error.code)
