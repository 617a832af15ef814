"""YAML, read so that a mistake is one message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from fedml_spurious.common.errors import InputError

_MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; this loader refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        # Keys that `<<` brings in are no repetition: those that stand here win over them.
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == _MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is no plain text", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """The content of a YAML text; what two places share by an alias is a copy in each.

    Args:
        text: the text.
        source: where it is from, for the error.

    Raises:
        InputError: it is broken; the text names line and column where there are any.
    """
    try:
        return _unshared(yaml.load(text, Loader=_UniqueKeyLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not YAML"
        raise InputError(f"{source}: broken YAML{where}: {problem}") from None
    except RecursionError:
        raise InputError(f"{source}: broken YAML: it is nested too deeply, or contains itself") from None
    except (ValueError, TypeError, OverflowError) as error:  # of values that look like dates or numbers
        raise InputError(f"{source}: broken YAML: a value cannot be read ({error}); quote it") from None


def _unshared(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _unshared(value) for key, value in content.items()}
    return [_unshared(item) for item in content] if isinstance(content, list) else content


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; see :func:`parse_yaml`.

    Raises:
        InputError: it cannot be read, or is broken.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from None
    return parse_yaml(text, str(path))
