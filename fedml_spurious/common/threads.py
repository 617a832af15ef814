"""How the threads of a process wait, told before torch is loaded."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Let threads that wait for each other sleep early; read by libgomp when torch loads it.

    Otherwise two runs on the same cores keep each other from working: two runs of two threads each took 208 s
    on two cores instead of 55 s. A run that was alone was 4 % faster without this.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = "1000"
