"""Playing past traffic again under another configuration: what it would have come to. No gateway runs, nobody is asked.

Requests arrive and end in virtual time, on the gateway's own policy, ledger and circuits. What is not the gateway's,
what a provider said, is told by the receipts of the past; where they do not tell it, it is assumed, and said so.
"""
