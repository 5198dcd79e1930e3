"""Check this machine, check parameters, execute notebooks."""
