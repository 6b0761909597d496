"""The control API, ``/_test``: what a test in any language may tell a scripted gateway, and ask it."""
