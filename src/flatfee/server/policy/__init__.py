"""Routing policy. Pure: no I/O, no clock, no chance; state enters through arguments."""
