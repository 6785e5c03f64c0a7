"""A XenServer host in a directory: to try ovsxen, and to test it. Nothing of the package imports it but the CLI."""
