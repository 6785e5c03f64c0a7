"""Memory that this process has and does not use."""

import ctypes
import gc

MANY = 100
"""After so many rows or records it is worth while; it takes some 20 ms."""


def trim() -> None:
    """Let the system have what is free again, as after a burst (malloc_trim(3)); a C library without that keeps it."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass
