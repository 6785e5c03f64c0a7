"""How long a start, an update, a sync, a restart and a recovery take, and what idling costs: `python -m bench`."""
