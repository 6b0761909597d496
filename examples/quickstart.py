"""One question, its answer, and the receipt.

flatfee serve                                    # in another terminal; prints a key
export FLATFEE_BASE_URL=http://127.0.0.1:8787/v1 FLATFEE_API_KEY=ff_proj_…
python examples/quickstart.py
"""

from flatfee import Client

with Client() as client:  # reads FLATFEE_API_KEY and FLATFEE_BASE_URL
    completion = client.chat.completions.create(
        model="auto",
        task="plan",  # a hint: careful work goes to a premium model
        messages=[{"role": "user", "content": "Plan the migration in three steps."}],
    )
    print(completion.choices[0].message.content)

    receipt = completion.receipt
    if receipt:
        print(receipt.explain())
        print("lane:", receipt.lane, "| fair-use left:", receipt.fair_use_remaining)

    usage = client.usage.retrieve()
    if usage.fair_use:
        print("used in this window:", usage.fair_use.used, "of", usage.fair_use.limit)
