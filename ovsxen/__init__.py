"""Glue between Open vSwitch and XenServer / XCP-ng hosts."""

__version__ = "0.1.0"
