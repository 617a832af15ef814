"""Objects that a configuration names as ``module:name``."""

from __future__ import annotations

import importlib
import traceback

from fedml_spurious.common.errors import InputError


def import_object(path: str, *, where: str, beside: str = "beside the configuration") -> object:
    """Import ``module:name``.

    Args:
        path: the module and the name in it, joined by a colon.
        where: section and key of the configuration, or the option, for the error.
        beside: where else than on the path modules of the user's own are found, for the error.

    Raises:
        InputError: there is no such module or name.
    """
    module_name, _, attribute = path.partition(":")
    try:
        found: object = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{where}: cannot import {path!r} ({error}); expected module:name, with the module {beside}, "
            "installed, or on PYTHONPATH"
        ) from error
    except ValueError:  # no module name
        raise InputError(f"{where}: cannot import {path!r}; expected module:name") from None
    except (Exception, SystemExit) as error:  # a module of the user's can raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{error.filename}, line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(
            f"{where}: importing {module_name} failed with {type(error).__name__}: {error} "
            f"({place or f'{frame.filename}, line {frame.lineno}'}); mend the module"
        ) from error
    return found
