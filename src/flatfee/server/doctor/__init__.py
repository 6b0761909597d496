"""What ``flatfee doctor`` checks, one subject a module. Nothing here prints, and nothing is changed or repaired.

A check yields ``Finding``s. What it judges by (a version, a limit, the time) is handed in by ``examine``,
so that each can be shown what is wrong without a machine on which it is.
"""
