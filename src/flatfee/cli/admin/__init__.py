"""The commands for operators: one file for each group, thin over the admin API.

All of them speak HTTP to it, to a gateway that runs (``remote``) or to one built in this process over
the configured ledger (``local``). What an operator may do is the API's to say, not decided here.
"""
