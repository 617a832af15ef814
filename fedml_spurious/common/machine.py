"""What this machine lets a process have: cores and memory, limits of containers (cgroups) among them."""

from __future__ import annotations

import os
import resource
from pathlib import Path, PurePosixPath

import psutil
from loky import cpu_count

_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Controller, limit, what is used, and the files' pages among that, which are given back; of cgroups 2 and 1.
_CGROUP_FILES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cores() -> int:
    """CPU cores that this process may use: of its affinity and its cgroup too."""
    return int(cpu_count())


def describe_cores() -> str:
    """The cores in words, with what limits them."""
    there, usable = os.cpu_count() or 1, cores()
    return f"{usable} of {there} cores (affinity or cgroup)" if usable < there else f"{usable} cores"


def free_memory(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Bytes that processes here can still take: of the machine, or of a cgroup where that is less.

    Args:
        cgroups: where cgroups are mounted.
        membership: says in which of them this process is; in a container it is the one at the top.
    """
    available = int(psutil.virtual_memory().available)
    return min([available, *_left_in_cgroups(cgroups, membership)])


def _left_in_cgroups(cgroups: Path, membership: Path) -> list[int]:
    left = []
    for controller, limit_name, usage_name, pages in _CGROUP_FILES:
        own = _own_cgroup(membership, controller)
        for place in (own, *own.parents):
            folder = cgroups / controller / place
            limit, usage = (_number(folder / name) for name in (limit_name, usage_name))
            if limit is not None and usage is not None:
                left.append(max(0, limit - usage + _pages(folder / usage_name, pages)))
    return left


def _own_cgroup(membership: Path, controller: str) -> PurePosixPath:
    """The cgroup of this process, below where they are mounted; the top where nobody says."""
    try:
        lines = os.fsdecode(membership.read_bytes()).splitlines()  # names of cgroups are any bytes
    except OSError:
        return PurePosixPath()
    for line in lines:  # as in 0::/user.slice, or 4:memory:/jobs/7
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return PurePosixPath(path.lstrip("/"))
    return PurePosixPath()


def _number(path: Path) -> int | None:
    """What a file of a cgroup says; None where there is none, or no limit ("max")."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _pages(usage: Path, name: str) -> int:
    try:
        lines = usage.with_name("memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)


def used_memory() -> int:
    """Bytes of memory that this process has now."""
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """The most bytes of memory that this process has had so far."""
    try:
        # What resource tells is the parent's too, where that was larger when it started this process.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
