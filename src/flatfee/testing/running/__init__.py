"""How a scripted gateway runs: its thread and clock, what stands around the app, how it is reached."""
