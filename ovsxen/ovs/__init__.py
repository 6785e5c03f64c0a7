"""Open vSwitch: its database on disk and on the wire, and its two daemons."""
