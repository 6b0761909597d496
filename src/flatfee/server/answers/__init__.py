"""Providers' answers: read, completed, turned into another shape, gone on with. Sans I/O."""
