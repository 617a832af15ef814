"""Work counts as done when everything that belongs to it is there, and not before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import read_rows

from fedml_spurious.common.checksums import keep_checksums
from fedml_spurious.common.errors import InputError
from fedml_spurious.experiment import result_store
from fedml_spurious.experiment.result_key import Outcome, ResultKey
from fedml_spurious.experiment.result_store import TRAJECTORY_COLUMNS, ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.personalization import make_method
from fedml_spurious.results.rows import ClientResult

OPTIONS = make_method("ours", lam_adv=1.0, lam_l2=0.1).settings


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def key(client: str) -> ResultKey:
    return ResultKey("ours", 0, 0, client, OPTIONS)


def outcome(client: str) -> Outcome:
    cells: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(ClientResult))
    cells |= {"dataset": "d", "method": "ours", "fl_seed": 0, "p_seed": 0, "client": client, "acc_b": 0.5}
    cells |= {name: 1 for name in ("n_train", "n_val", "n_test", "n_test_bc")}
    row = ClientResult(**cells)
    steps = tuple(
        dict.fromkeys(TRAJECTORY_COLUMNS, 0.5) | {"client": client, "epoch": 1, "batch": batch}
        for batch in range(3)
    )
    return Outcome(row, dataclasses.replace(row, acc_b=0.25), steps, {"w": torch.ones(2)}, {"found": 1.0})


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "checksums.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("models", [False, True])
@pytest.mark.parametrize("with_checksums", [False, True])
@pytest.mark.parametrize("survived", range(6))
def test_a_kill_between_any_two_writes_of_an_outcome(
    survived: int, with_checksums: bool, models: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row comes last: before it the client is done again, to the same files."""
    folder, reference = tmp_path / "killed", tmp_path / "whole"
    for path in (folder, reference):
        path.mkdir()
        if with_checksums:
            keep_checksums(path)
        ResultStore(RunFolder(path), models=models).add(key("0000"), outcome("0000"))
    writes = 0

    def counted(write: Any) -> Any:
        def wrapped(*arguments: Any) -> None:
            nonlocal writes
            writes += 1
            if writes > survived:
                raise Killed
            write(*arguments)

        return wrapped

    store = ResultStore(RunFolder(folder), models=models)
    assert store.has(key("0000"))
    with monkeypatch.context() as patch:
        for name in ("append_csv", "write_json", "save_tensors", "append_result"):
            patch.setattr(result_store, name, counted(getattr(result_store, name)))
        killed = False
        try:
            store.add(key("0001"), outcome("0001"))
        except Killed:
            killed = True
    assert writes == min(survived + 1, 5), "five files of a client"
    again = ResultStore(RunFolder(folder), models=models)
    assert again.has(key("0001")) == (not killed)
    if killed:
        again.add(key("0001"), outcome("0001"))
    whole = ResultStore(RunFolder(reference), models=models)
    whole.add(key("0001"), outcome("0001"))
    for one in (again, whole):
        assert one.has(key("0001"))
        one.collect([key("0000"), key("0001")])
    assert contents(folder) == contents(reference)


def test_what_methods_tell_grows_by_lines_and_is_one_file_in_the_end(tmp_path: Path) -> None:
    keep_checksums(tmp_path)
    store = ResultStore(RunFolder(tmp_path))
    part, sizes = store.path(key("0000")), [0]
    for client in ("0002", "0001", "0000"):
        store.add(key(client), outcome(client))
        sizes.append((part / "details.csv").stat().st_size)
    assert not (part / "details.json").exists()
    assert sizes[2] - sizes[1] == sizes[3] - sizes[2] < sizes[1]
    with (part / "details.csv").open("ab") as stream:
        stream.write(b'0003,"{""fou')  # what a kill leaves
    again = ResultStore(RunFolder(tmp_path))
    again.add(key("0003"), outcome("0003"))
    clients = [f"000{place}" for place in range(4)]
    again.collect([key(client) for client in clients])
    told = json.loads((part / "details.json").read_text())
    assert list(told) == clients
    assert told == {client: {"found": 1.0} for client in clients}
    assert not (part / "details.csv").exists()


def test_a_broken_line_of_what_methods_tell_names_its_client(tmp_path: Path) -> None:
    store = ResultStore(RunFolder(tmp_path))
    part = store.path(key("0000"))
    part.mkdir(parents=True)
    (part / "details.csv").write_text("client,details\n0001,nonsense\n")
    with pytest.raises(InputError, match=r"details\.csv: broken, .* of client 0001; remove the folder"):
        store.add(key("0000"), outcome("0000"))


def test_what_belongs_to_other_options_does_not_stay_beside_the_results(tmp_path: Path) -> None:
    """Options that are chosen now tell no trajectory, no details and no model; those of before did."""
    store = ResultStore(RunFolder(tmp_path))
    other = dataclasses.replace(key("0000"), options=make_method("ours", lam_adv=2.0, lam_l2=0.1).settings)
    store.add(key("0000"), outcome("0000"))
    store.add(other, Outcome(outcome("0000").last, outcome("0000").last))
    target = RunFolder(tmp_path).personal_part("ours", 0, 0)
    both = ["clients.csv", "clients_last.csv"]
    store.collect([key("0000")])
    assert sorted(contents(target)) == sorted([*both, "details.json", "models/0000.pt", "trajectory.csv"])
    store.collect([other])
    assert sorted(contents(target)) == both
    assert [row["acc_b"] for row in read_rows(target / "clients.csv")] == ["0.25"]


def test_every_client_brings_the_trajectory_of_its_own_options(tmp_path: Path) -> None:
    """Both clients tried both; the batches of the second options begin at 10."""
    store = ResultStore(RunFolder(tmp_path))
    options = [make_method("ours", lam_adv=value, lam_l2=0.1).settings for value in (1.0, 2.0)]
    plan = []
    for number, own in enumerate(options):
        for client in ("0001", "0000"):
            found = outcome(client)
            steps = tuple(step | {"batch": step["batch"] + 10 * number} for step in found.trajectory)
            store.add(ResultKey("ours", 0, 0, client, own), dataclasses.replace(found, trajectory=steps))
        plan.append(ResultKey("ours", 0, 0, f"000{number}", own))
    store.collect(plan)
    rows = read_rows(RunFolder(tmp_path).personal_part("ours", 0, 0) / "trajectory.csv")
    expected = [("0000", str(batch)) for batch in range(3)] + [
        ("0001", str(10 + batch)) for batch in range(3)
    ]
    assert [(row["client"], row["batch"]) for row in rows] == expected
