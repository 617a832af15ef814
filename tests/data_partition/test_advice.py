"""Messages of the code that makes split files tell what the reader's own command takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import invoke

import data_partition
import fedml_spurious
from data_partition.registry import PARTITIONS
from fedml_spurious.cli import run
from fedml_spurious.common import advice
from fedml_spurious.common.errors import InputError

FLAG = re.compile(r"(?<![\w`-])--[a-z][a-z-]*")
# What these say is read by those alone who called a command of the package data_partition.
COMMANDS = {"command.py", "own_folder.py", "inspect.py"}
MIXED = "list_attr_celeba.txt"


def without_commands(text: str) -> str:
    """A message without whole commands, which name the program that takes their flags."""
    return re.sub(r"`fedml-spurious [^`]*`", "", text)


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings of a module that can get into a message: no docstrings, no help, nothing of downloads."""
    silent: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "description"):
            silent |= set(ast.walk(node.value))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("download_"):
            silent |= set(ast.walk(node))
        elif isinstance(node, ast.Assign) and "ALIASES" in {getattr(t, "id", "") for t in node.targets}:
            silent |= set(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in silent:
            yield node


def test_no_message_that_a_run_can_show_spells_a_flag() -> None:
    folder = Path(data_partition.__file__).parent
    found = [
        f"{path.relative_to(folder)}, line {text.lineno}: {text.value}"
        for path in sorted(folder.rglob("*.py"))
        if path.name not in COMMANDS
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
        if FLAG.search(without_commands(text.value))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("dataset", "options", "files", "expected"),
    [
        ("colored_mnist", {"source": "mnist"}, None, "data_args.partition.source=digits"),
        ("colored_mnist", {}, [], "say with data_args.raw|data_args.partition.source=digits"),
        ("colored_mnist", {}, ["train-images-idx3-ubyte"], "data_args.partition.verify_raw=false"),
        ("colored_mnist", {}, ["t10k-labels-idx1-ubyte.gz"], "partition colored_mnist --raw DIR --download"),
        ("colored_coil20", {}, None, "say with data_args.raw"),
        ("colored_coil20", {}, [], "partition colored_coil20 --raw DIR --download"),
        ("celeba_real", {}, None, "say with data_args.raw"),
        ("celeba_real", {}, [], "Give with data_args.raw"),
        ("celeba_synthetic", {}, [MIXED], "web page"),
        ("celeba_synthetic", {"group_counts": "nowhere.yaml"}, [], "celeba_s_small"),
    ],
)
def test_a_run_advises_what_it_takes(
    dataset: str, options: dict[str, Any], files: list[str] | None, expected: str, tmp_path: Path
) -> None:
    section: dict[str, Any] = {"dataset": dataset, "partition": options}
    if files is not None:
        (tmp_path / "raw").mkdir()
        for name in files:
            (tmp_path / "raw" / name).write_text("<html>")
        section["raw"] = str(tmp_path / "raw")
    refused = invoke({"data_args": section}, tmp_path / "run")
    assert refused.exit_code == 2, refused.output
    assert re.search(expected, refused.output)
    taken = {flag for option in run.params for flag in option.opts}
    assert set(FLAG.findall(without_commands(refused.output))) <= taken


def test_whole_commands_in_an_advice_are_accepted_by_their_program() -> None:
    with advice.advising_a_run("celeba_real"):
        for text in (advice.fetch(), advice.use_fewer_workers()):
            (command,) = re.findall("`fedml-spurious partition celeba_real ([^`]*)`", text)
            flags = set(FLAG.findall(command))
            assert flags <= {
                flag for option in PARTITIONS["celeba_real"].command.params for flag in option.opts
            }
        assert advice.make_elsewhere() == "give another --output"


def test_the_command_of_a_partition_reads_of_its_flags() -> None:
    with advice.advising_a_command():
        assert advice.option("raw_split", "train") == "--raw-split train"
        assert (advice.option("dry_run", "true"), advice.option("verify_raw", "false")) == (
            "--dry-run",
            "--no-verify-raw",
        )
        assert advice.fetch() == "fetch it with --download"
        assert advice.make_elsewhere() == "choose another --out or add --overwrite"


def test_a_program_reads_of_arguments() -> None:
    assert advice.option("raw_split", "train") == "raw_split='train'"
    assert (advice.option("dry_run", "true"), advice.option("limit", "30")) == ("dry_run=True", "limit=30")
    assert advice.make_elsewhere() == "choose another out or add overwrite=True"
    for text in (advice.raw(), advice.fetch(), advice.make_anew("x"), advice.use_fewer_workers()):
        assert not FLAG.search(without_commands(text))


ROOMS = ("common", "config", "experiment", "learning", "analysis", "personalization")


@pytest.mark.parametrize("words", [advice.for_a_program, advice.for_fedmls_runner])
def test_messages_of_a_run_speak_to_a_program_of_nothing_that_it_does_not_have(words: Any) -> None:
    package = Path(fedml_spurious.__file__).parent
    flags = r"--(resume|output|set)" if words is advice.for_a_program else r"--(resume|output)"
    taken = [
        text.value
        for room in ROOMS
        for path in sorted((package / room).rglob("*.py"))
        if path.name not in ("reference.py", "cli_errors.py", "advice.py")
        for text in texts(ast.parse(path.read_text(encoding="utf-8")))
        if re.search(flags, text.value)
    ]
    assert len(taken) > 15
    assert [text for text in taken if re.search(flags, without_commands(words(text)))] == []


def test_an_error_that_is_translated_stays_the_same() -> None:
    error = InputError("x: continue with --resume, or give another --output, not `run --output x`")
    with pytest.raises(InputError) as caught, advice.translated(advice.for_a_program):
        raise error
    assert caught.value is error
    assert str(error) == "x: continue with resume=True, or give another output, not `run --output x`"
    kept = "ft: OSError. What was finished is kept; mend it, then continue with --resume"
    assert advice.for_fedmls_runner(kept) == "ft: OSError. Mend it, then start the program again"
    assert advice.for_an_audit(kept) == "ft: OSError. Mend it, then start the audit again"
    # A part of the run is made again by the run.
    broken = "model.pt: is broken; remove the file and continue with --resume, which makes it again"
    assert advice.for_an_audit(broken) == broken
    other = "model.pt: holds another architecture. Use the model_args it was trained with, or give another "
    for output in ("--output", "output"):
        assert advice.for_an_audit(f"{other}{output}").endswith("trained with, or audit another run")
