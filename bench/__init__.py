"""How long a start, an update, a restart and a recovery take, and what the idle daemon costs: `python -m bench`."""
