"""The C allocator of a process that trains: memory that was freed is used again instead of given back.

By default glibc maps every tensor above 32 MB anew and gives it back when it is freed, so that every gradient
of a large layer costs a page fault per 4 KB. This changes where numbers stand, never what they are.
"""

from __future__ import annotations

import ctypes
import os

SWITCH = "FEDML_SPURIOUS_ALLOCATOR"

# Numbers of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD = 64 * 1024 * 1024  # the heap grows by more than is asked for; what is not used takes no memory
_LARGEST = 2**31 - 1

# Who sets one of these has chosen.
_GLIBC_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def reuse_freed_memory() -> bool:
    """Let glibc keep freed memory, from here to the end of the process; elsewhere nothing happens.

    Call it before torch is imported, whose first allocations are else mapped as before.
    ``FEDML_SPURIOUS_ALLOCATOR=system`` leaves the allocator alone, and so does a variable of glibc's own.

    Returns:
        Whether the allocator was told.
    """
    if os.environ.get(SWITCH) == "system" or _chosen_by_the_user() or not _on_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: _PAD}
    return all([mallopt(option, value) == 1 for option, value in settings.items()])


def _chosen_by_the_user() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc" in tunables or any(name in os.environ for name in _GLIBC_VARIABLES)


def _on_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # another system, or another C library
        return False
