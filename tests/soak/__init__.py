"""A thousand random kills with traffic on. rounds.py has what a round is; draw.py decides what is done in it.

A watched host in a network namespace forwards frames through two userspace bridges. In each round verbs of ovsxen, its
daemon and those of Open vSwitch are killed, stopped, crashed and ended at random moments; then the switch must get well
by itself. What must never be is looked for all the time.
"""
