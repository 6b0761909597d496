"""An answer as it is written. The stream knows its receipt: a first one at once, the settled one at the end.

Needs FLATFEE_BASE_URL and FLATFEE_API_KEY; see quickstart.py.
"""

import sys

from flatfee import Client, StreamTruncated

with Client() as client:
    stream = client.chat.completions.create(
        model="auto",
        stream=True,
        messages=[{"role": "user", "content": "Explain event loops in one paragraph."}],
    )
    with stream:  # leaving the block early frees the connection, and the gateway stops the provider
        if stream.receipt:
            print("lane:", stream.receipt.lane, "| served by:", stream.receipt.route)
        try:
            for chunk in stream:
                for choice in chunk.choices:
                    print(choice.delta.content or "", end="", flush=True)
        except StreamTruncated as error:
            # A cut answer never looks whole.
            sys.exit(f"\nThe answer broke off after {len(error.partial)} characters.")
    print()
    if stream.receipt:
        print(stream.receipt.explain())
