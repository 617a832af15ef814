"""The public face: what a program of a user's own imports, and the example that shows it."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from running import Finished, invoke, read_rows

import fedml_spurious as fs

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "library.py"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("library_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_public_is_there_and_nothing_else_pretends_to_be() -> None:
    assert len(fs.__all__) > 10
    for name in fs.__all__:
        assert getattr(fs, name) is not None
        assert name in dir(fs)
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        fs.absent  # noqa: B018


def test_type_checkers_and_python_find_the_same_names_in_the_same_modules() -> None:
    tree = ast.parse((REPOSITORY / "fedml_spurious" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert typed == fs._MODULES


def test_importing_the_package_imports_neither_torch_nor_fedml() -> None:
    code = "import sys, fedml_spurious; print({'torch', 'fedml', 'typing'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_the_example_has_at_most_30_lines_and_measures_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 30
    short = ["train_args.comm_round=1", "train_args.epochs=1", "personalization_args.epochs=1"]
    load_example().main(str(tmp_path / "run"), *short)
    printed = capsys.readouterr().out
    # The same client by hand, from the files of the run.
    run = fs.Run(tmp_path / "run")
    view = run.client("0003").view(p_seed=0)
    tests = fs.load_test_data(run.splits, "0003", torch.device("cpu"))
    for name, options in load_example().METHODS.items():
        model = run.global_model()
        model.load_state_dict(fs.make_method(name, **options).personalize(view).state)
        model.eval()
        right = (model(part.x).argmax(dim=1) == part.y for part in (tests.biased, tests.conflicting))
        acc_b, acc_bc = (found.double().mean() for found in right)
        assert f"{name}: Acc_B {acc_b:.3f}, Acc_BC {acc_bc:.3f}\n" in printed


def test_the_code_in_the_readme_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder of its own, with less training."""
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.DOTALL)
    short = ["train_args.comm_round=1", "train_args.epochs=1", "personalization_args.epochs=1"]
    original = fs.run
    monkeypatch.setattr(
        fs, "run", lambda name, out, sets, **more: original(name, out, [*sets, *short], **more)
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines() if "Acc_BC 0." in line] == ["ft", "ours"]


def test_a_client_of_a_finished_run_is_what_the_run_measured(finished: Finished) -> None:
    run = fs.Run(finished.folder)
    client = run.client("0001", fl_seed=1)
    cells = client.measure(run.global_model(fl_seed=1))
    rows = (finished.folder / "personal/global/fl1/clients.csv").read_text().splitlines()
    header, row = rows[0].split(","), next(line for line in rows if ",0001," in line).split(",")
    stored = dict(zip(header, row, strict=True))
    assert {name: str(value) for name, value in cells.items()} == {name: stored[name] for name in cells}


def test_a_client_under_recalibrated_statistics_is_what_the_run_measured(
    tiny: dict[str, Any], tmp_path: Path
) -> None:
    tiny["personalization_args"]["batchnorm"] = "recalibrate"
    tiny["experiment_args"] = {"methods": ["global"], "fl_seeds": [3]}
    assert invoke(tiny, tmp_path / "run").exit_code == 0
    run = fs.Run(tmp_path / "run")
    (stored,) = [row for row in read_rows(tmp_path / "run/results.csv") if row["client"] == "0001"]
    cells = run.client("0001").measure(run.global_model())
    assert {name: str(value) for name, value in cells.items()} == {name: stored[name] for name in cells}


def test_the_test_set_is_sealed_while_a_program_personalizes(finished: Finished) -> None:
    client = fs.Run(finished.folder).client("0001")

    class Curious(type(fs.make_method("ft"))):  # type: ignore[misc]
        def personalize(self, view: fs.ClientView, observe: Any = None) -> Any:
            client.data.load("0001", "test_bc")

    with pytest.raises(fs.SealedError, match="client 0001: the bias-conflicting test set"):
        client.personalize(Curious(fs.make_method("ft").settings), p_seed=0)


def test_what_a_run_has_not_got_is_one_message(finished: Finished, tmp_path: Path) -> None:
    run = fs.Run(finished.folder)
    for ask in (run.global_model, run.splits_of, partial(run.client, "0001")):
        with pytest.raises(fs.InputError, match="the run has no federated seed 7; it has 0, 1"):
            ask(7)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(finished.folder / "config.yaml", unfinished)
    with pytest.raises(fs.InputError, match="has not finished the global model fl0"):
        fs.Run(unfinished).global_model()
    with pytest.raises(fs.InputError, match="has personalized nothing with fl1 yet"):
        fs.Run(unfinished).client("0001", 1)
    with pytest.raises(fs.InputError, match=r"is no run folder, it has no config\.yaml"):
        fs.Run(tmp_path)
    with pytest.raises(fs.InputError, match=r"comm_args\.backend: is MPI, which needs several processes"):
        fs.run("quickstart", tmp_path / "run", ["comm_args.backend=MPI"])


def test_options_of_a_method_are_checked() -> None:
    wrong = r"options of ours: 2 settings are wrong\n  lam_adv: expected .*, got -1.0\n  lam: unknown"
    with pytest.raises(fs.InputError, match=wrong):
        fs.make_method("ours", lam_adv=-1.0, lam=1.0)
    with pytest.raises(fs.InputError, match="unknown method 'theirs'"):
        fs.make_method("theirs")


def test_a_program_reads_of_its_own_arguments(finished: Finished, tmp_path: Path) -> None:
    config = finished.folder.parent / "run.yaml"
    other = ["train_args.epochs=2"]
    for resume, overrides, said in (
        (False, (), "Continue it with resume=True, or give another output"),
        (True, other, "Use the configuration of that run, or give another output"),
        (True, ["epochs=2"], "the override epochs=2: expected section.key=value"),
    ):
        with pytest.raises(fs.InputError) as caught:
            fs.run(config, finished.folder, overrides, resume=resume)
        assert said in str(caught.value)
        assert "--" not in str(caught.value)
    with pytest.raises(fs.InputError, match="is no run folder") as caught:
        fs.Run(tmp_path)
    assert "--" not in str(caught.value)
