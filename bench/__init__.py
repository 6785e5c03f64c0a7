"""How long a start takes and how much memory, beside what ovs-ctl and the daemons alone take: `python -m bench`."""
