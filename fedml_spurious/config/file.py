"""From a YAML file and ``--set`` options to settings, with every mistake named at once."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data_partition.registry import PARTITIONS
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import FLOAT_AS_TEXT, problems_of, report
from fedml_spurious.common.yaml_files import parse_yaml, read_yaml
from fedml_spurious.config.fedml_keys import take_fedml, unwrap
from fedml_spurious.config.settings import Settings, settings_type


def find_config(config: str) -> Path:
    """Find a configuration by path, or by name among those that ship with the package.

    Raises:
        InputError: there is no such file or name.
    """
    path = Path(config)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if config in shipped:
        return shipped[config]
    close = difflib.get_close_matches(config, shipped, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    kind = "is a folder" if path.is_dir() else "no such file"
    raise InputError(
        f"{config}: {kind}; expected a YAML file or one of the names {', '.join(sorted(shipped))}.{hint}"
    )


def shipped_configs() -> dict[str, Path]:
    """Configurations that ship with the package, by name."""
    folder = Path(str(resources.files("fedml_configs")))
    return {path.stem: path for path in folder.glob("*.yaml")}


def load_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read and check a configuration; modules beside it can be named in it, as ``module:name``.

    Args:
        path: the YAML file.
        overrides: ``section.key=value``, each replacing one value of the file.

    Returns:
        Frozen settings.

    Raises:
        InputError: the file cannot be read, or settings are wrong; the text names all of them.
    """
    content = _read_yaml(path)
    for override in overrides:
        _apply(content, override)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing beside the file hides an installed module
    return check_settings(content, source=str(path))


def check_settings(content: Mapping[str, Any], *, source: str) -> Settings:
    """Check settings that were read from ``source``.

    Raises:
        InputError: settings are wrong; the text names all of them.
    """
    content, problems = take_fedml(content)
    experiment = content.get("experiment_args")
    methods = experiment.get("methods") if isinstance(experiment, dict) else None
    own = tuple(m for m in methods if isinstance(m, str)) if isinstance(methods, list) else ()
    model, unknown = _with_methods(own)
    problems += unknown
    if unknown and any(":" in method for method in own):
        content = _without_sections_of_others(content, model)
    try:
        checked = model.model_validate(content)
    except ValidationError as error:
        problems += problems_of(error, model, open_sections=_open_sections(content))
        raise InputError(report(problems, source=source)) from error
    if problems:
        raise InputError(report(problems, source=source))
    return checked


def _with_methods(entries: tuple[str, ...]) -> tuple[type[Settings], list[str]]:
    """The settings with a section for every method that is found, and what is wrong with the others."""
    try:
        return settings_type(entries), []
    except InputError:
        known, problems = list[str](), list[str]()
    for entry in dict.fromkeys(entries):
        try:
            settings_type((*known, entry))
            known.append(entry)
        except InputError as error:
            problems.append(str(error))
    return settings_type(tuple(known)), problems


def _without_sections_of_others(content: Mapping[str, Any], model: type[Settings]) -> dict[str, Any]:
    """The sections without those of methods that nobody knows: one of the user's own was not found.

    Its name is not known either, so that its section and its grid would seem to be mistakes too.
    """
    taken = dict(content)
    known = model.model_fields["personalization_args"].annotation.model_fields  # type: ignore[union-attr]
    for place in ("personalization_args", "experiment_args"):
        section = taken.get(place)
        if not isinstance(section, dict):
            continue
        inner = section if place == "personalization_args" else section.get("grids")
        if isinstance(inner, dict):
            kept = {key: value for key, value in inner.items() if key in known or not isinstance(value, dict)}
            taken[place] = kept if inner is section else {**section, "grids": kept}
    return taken


def _open_sections(content: Mapping[str, Any]) -> dict[str, Iterable[str]]:
    """Keys of ``data_args.partition``, which depend on the data set."""
    section = content.get("data_args")
    dataset = str(section.get("dataset")) if isinstance(section, dict) else ""
    if dataset not in PARTITIONS:
        return {}
    return {"data_args.partition": PARTITIONS[dataset].Options.model_fields}


def _read_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        got = "an empty file" if content is None else f"a {type(content).__name__}"
        raise InputError(f"{path}: expected sections such as train_args with keys below them, got {got}")
    # An empty section is a section with its defaults.
    return unwrap({name: {} if section is None else section for name, section in content.items()}, str(path))


def _apply(content: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise InputError(f"--set {override}: expected section.key=value, for example train_args.epochs=2")
    value = parse_yaml(text, f"--set {override}")
    if isinstance(value, str) and FLOAT_AS_TEXT.fullmatch(value):
        value = float(value)  # nobody writes 1e-3 on a command line and means text
    target = content
    for key in keys[:-1]:
        inner = target.setdefault(key, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}: {key} is a value, not a section")
        target = inner
    target[keys[-1]] = value
