"""An answer as typed events: what is there of its fields while they are written, and the value in the end.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py.
"""

import sys

from pydantic import BaseModel

from flatfee import APIError, Client, StructuredOutputError


class Review(BaseModel):
    summary: str
    problems: list[str]
    score: int


with (
    Client() as client,
    client.chat.completions.stream(
        model="auto",
        task="review",
        messages=[{"role": "user", "content": "Review this: def add(a, b): return a - b"}],
        response_format=Review,
    ) as stream,  # the request is sent here; leaving the block early frees the connection
):
    if stream.receipt:
        print("lane:", stream.receipt.lane, "| served by:", stream.receipt.route)
    try:
        for event in stream:
            if event.type == "content.delta":
                print("so far:", event.parsed)
            elif event.type == "content.done":
                print("whole:", event.parsed)
        completion = stream.get_final_completion()
    except StructuredOutputError as error:
        sys.exit(f"The answer does not fit: {error}")
    except APIError as error:  # a stream that was cut never has a final completion
        sys.exit(f"No answer: {error}")

review = completion.choices[0].message.parsed
if review:
    print(f"{type(review).__name__} with a score of {review.score}")
if completion.receipt:
    print(completion.receipt.explain())
