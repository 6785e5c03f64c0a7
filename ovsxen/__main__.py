"""`python3 -m ovsxen` is the command itself.

Python's cyclic garbage collector is off from the first import on: nothing in so short a life is worth collecting, and
it costs a small boot a tenth of its time.
"""

import gc

gc.disable()

from ovsxen.cli import run_and_end  # noqa: E402

if __name__ == "__main__":
    run_and_end()
