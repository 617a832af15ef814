"""The command line of a data set, made from its options so that both say the same."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from data_partition.split_files.diagnostics import describe_shortcut
from data_partition.split_files.federation import Progress
from data_partition.split_files.meta import SPLITS, read_meta
from fedml_spurious.common.advice import advising_a_command
from fedml_spurious.common.cli_errors import Command, friendly
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.validation import typed_problems
from fedml_spurious.common.words import counted


def partition_command(
    name: str,
    options_type: type[BaseModel],
    build: Callable[..., Path],
    *,
    help_text: str,
    download: Callable[[Path], None] | None,
    aliases: Mapping[str, Sequence[str]],
) -> click.Command:
    """Make the command that builds the splits of a data set.

    Args:
        name: of the data set.
        options_type: its options; every field becomes an option of the command.
        build: writes the splits and gives the path of their description.
        help_text: what the data set is.
        download: fetches the raw files into a folder; None where nothing can be fetched.
        aliases: field -> further names of its option.

    Returns:
        The command, to be run or mounted in a group.
    """

    @friendly
    def run(
        raw: Path | None, out: Path, overwrite: bool, workers: int | None, fetch: bool = False, **given: Any
    ) -> None:
        with advising_a_command():
            options = _options(options_type, {k: v for k, v in given.items() if v is not None})
            if fetch and download is not None:
                if raw is None:
                    raise InputError("--download: say with --raw in which folder the raw files go")
                download(raw)
            with _shown_progress(name) as progress:
                path = build(
                    options, raw=raw, out=out, progress=progress, workers=workers, overwrite=overwrite
                )
            click.echo(summarize(path))

    fetching = [
        click.Option(["--download", "fetch"], is_flag=True, help="fetch missing raw files into --raw first")
    ]
    parameters: list[click.Parameter] = [
        click.Option(["--raw"], type=click.Path(path_type=Path), help="folder with the raw files"),
        click.Option(
            ["--out"], type=click.Path(path_type=Path), required=True, help="folder for the split files"
        ),
        *(fetching if download is not None else []),
        *(_option(field, info, aliases.get(field, ())) for field, info in options_type.model_fields.items()),
        click.Option(["--workers"], type=click.IntRange(min=1), help="processes, by default one per core"),
        click.Option(["--overwrite", "--force"], is_flag=True, help="replace splits of the same name"),
    ]
    return Command(name, callback=run, params=parameters, help=help_text)


def _options(options_type: type[BaseModel], given: Mapping[str, str]) -> BaseModel:
    """Options from the texts of a command line.

    Raises:
        InputError: some are wrong; the text names all of them as they were typed.
    """
    try:
        return options_type.model_validate_strings(given)
    except ValidationError as error:
        raise InputError("; ".join(typed_problems(error))) from None


def _option(field: str, info: FieldInfo, aliases: Sequence[str]) -> click.Option:
    """An option for a field; text, because pydantic reports all wrong values at once."""
    flag = f"--{field.replace('_', '-')}"
    default = info.get_default(call_default_factory=True)
    if info.annotation is bool:
        flag = f"{flag}/--no-{field.replace('_', '-')}"
        return click.Option(
            [flag, field], default=None, callback=_as_text, help=f"{info.description}; default {default}"
        )
    shown = ":".join(map(str, default)) if isinstance(default, tuple) else default
    default_text = "" if default is None else f"; default {shown}"
    return click.Option(
        [flag, *aliases, field], metavar=_metavar(info.annotation), help=f"{info.description}{default_text}"
    )


def _as_text(_context: click.Context, _parameter: click.Parameter, value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


def _metavar(annotation: Any) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    return {int: "N", float: "X"}.get(annotation, "TEXT")


@contextlib.contextmanager
def _shown_progress(title: str) -> Iterator[Progress]:
    """A bar with the remaining time on a terminal, plain lines elsewhere, from the first report on."""
    # Rich is what takes longest to import here, and --help does without it.
    from rich.console import Console

    # The same.
    from fedml_spurious.common.progress import Stage, stage

    with contextlib.ExitStack() as stack:
        shown: list[Stage] = []

        def report(done: int, total: int) -> None:
            if not shown:
                shown.append(stack.enter_context(stage(Console(stderr=True), title, total=total)))
            shown[0].set(done, total)

        yield report


def summarize(path: Path) -> str:
    """What the splits hold, in a few lines."""
    meta = read_meta(path)
    sizes = {split: sum(client.counts[split] for client in meta.clients.values()) for split in SPLITS}
    parts = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
    first = (
        f"{meta.name}: {counted(meta.num_clients, 'client')}, {counted(meta.num_classes, 'class')}; {parts}"
    )
    return "\n".join([first, *meta.remarks(), *describe_shortcut(meta), str(path)])
