"""What the processes of a test of :mod:`fedml_spurious.sweep.pool` do."""

from __future__ import annotations

import os
import signal
import time


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def die() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def environment(name: str) -> str:
    return os.environ[name]
