"""What stands where something else was looked for, for the message that says so."""

from __future__ import annotations

from pathlib import Path

from fedml_spurious.common.words import counted

_SHOWN = 4


def what_is_in(place: Path) -> str:
    """What a folder holds, in a few words: ``it holds a.csv, b and 3 others``."""
    if not place.exists():
        return "there is no such folder"
    if not place.is_dir():
        return "it is a file"
    try:
        names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in place.iterdir())
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    if not names:
        return "it is empty"
    more = len(names) - _SHOWN
    return f"it holds {', '.join(names[:_SHOWN])}" + (f" and {counted(more, 'other')}" if more > 0 else "")
