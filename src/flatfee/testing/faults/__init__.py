"""What goes wrong with a provider, and on the way to the caller."""
