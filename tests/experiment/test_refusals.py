"""Wrong input ends with one message, exit status 2, and nothing half-written."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Finished, invoke

from fedml_spurious.common.scratch import hold_folder


def change(config: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    return config | {section: config.get(section, {}) | values}


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        ("train_args", {"client_num_per_round": 5}, "has 4 clients; set it to 4 or less"),
        ("train_args", {"client_num_in_total": 9}, "is 9, but colored_mnist has 4 clients"),
        ("device_args", {"using_gpu": True, "gpu_id": 99}, "GPU 99 is asked for"),
        ("model_args", {"model": "cnn_64x64"}, "takes 64x64 images"),
        ("model_args", {"model": "resnet"}, "unknown network 'resnet'"),
        ("model_args", {"model": "nowhere:Net"}, "cannot import 'nowhere:Net'"),
        ("data_args", {"data_cache_dir": "/nowhere"}, "/nowhere"),
        ("data_args", {"dataset": "celeba"}, "no split files of 'celeba', but those of colored_mnist."),
        ("data_args", {"dataset": "colored_mnst"}, "Did you mean colored_mnist?"),
        ("personalization_args", {"clients": ["0099"]}, "no client '0099'"),
        ("comm_args", {"backend": "NCCL"}, "comm_args.backend"),
    ],
)
def test_settings_that_do_not_fit_end_with_one_message(
    section: str, values: dict[str, Any], expected: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    result = invoke(change(tiny, section, **values), folder)
    assert result.exit_code == 2
    assert expected in result.output
    assert "Traceback" not in result.output
    assert not folder.exists()


def test_a_missing_gpu_is_named(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = invoke(change(tiny, "device_args", using_gpu=True), tmp_path / "run")
    assert result.exit_code == 2
    assert "no CUDA GPU" in result.output


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_client_with_an_empty_split_is_named(split: str, splits: Path, tmp_path: Path) -> None:
    from data_partition.split_files.folder import SplitFolder
    from fedml_spurious.common.errors import InputError
    from fedml_spurious.experiment.inputs import choose_clients

    folder = SplitFolder(splits)
    counts = folder.meta.clients["0002"].counts
    empty = folder.meta.model_copy(
        update={
            "clients": folder.meta.clients
            | {"0002": folder.meta.clients["0002"].model_copy(update={"counts": counts | {split: 0}})}
        }
    )
    folder.meta = empty
    with pytest.raises(InputError, match=f"client 0002 has no sample in the {split} split") as refused:
        choose_clients(folder, None)
    # All clients train, whichever are personalized.
    assert ("personalization_args.clients" in str(refused.value)) == (split != "train")
    assert choose_clients(folder, ("0001",)) == ("0001",)


def test_split_files_that_name_no_client_for_personalization_do_not_mean_all(splits: Path) -> None:
    from data_partition.split_files.folder import SplitFolder
    from fedml_spurious.common.errors import InputError
    from fedml_spurious.experiment.inputs import choose_clients

    folder = SplitFolder(splits)
    limits = {"train_blond_females_above": 5}
    folder.meta = folder.meta.model_copy(update={"personalized_clients": (), "thresholds": limits})
    with pytest.raises(InputError, match=r"d of fl3: no client qualifies .*\(train_blond_females_above 5\)"):
        choose_clients(folder, None, "d of fl3")
    assert choose_clients(folder, ("0001",)) == ("0001",)


def test_clients_that_are_named_win_over_those_of_the_split_files(splits: Path) -> None:
    from data_partition.split_files.folder import SplitFolder
    from fedml_spurious.experiment.inputs import choose_clients

    folder = SplitFolder(splits)
    assert choose_clients(folder, None) == ("0000", "0001", "0002", "0003")
    folder.meta = folder.meta.model_copy(update={"personalized_clients": ("0000", "0002")})
    assert choose_clients(folder, None) == ("0000", "0002")
    assert choose_clients(folder, ("0003", "0001")) == ("0001", "0003")


def test_an_output_that_cannot_be_written(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = invoke(tiny, tmp_path / "run", "--output", str(tmp_path / "file" / "run"))
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    result = invoke(tiny, tmp_path / "mine")
    assert result.exit_code == 2
    assert "thesis.tex" in result.output
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_folder_that_another_run_is_using(tiny: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with hold_folder(folder):
        for options in ((), ("--resume",)):
            result = invoke(tiny, folder, *options)
            assert result.exit_code == 2
            assert "another process is working on the run in this folder" in result.output
        assert not list(folder.iterdir())
    assert invoke(tiny, folder).exit_code == 0


@pytest.mark.parametrize("name", ["model.pt", "checkpoint.pt"])
@pytest.mark.parametrize("damage", ["other", "broken"])
def test_a_checkpoint_of_another_architecture_or_a_broken_one(
    name: str, damage: str, tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert invoke(tiny, folder).exit_code == 0
    part = folder / "global/fl0"
    (folder / "checksums.jsonl").unlink()  # as in a run of an older version
    if name == "checkpoint.pt":
        (part / "model.pt").unlink()
    if damage == "other":
        state = {"features.0.weight": torch.zeros(1)}
        torch.save(
            state if name == "model.pt" else {"rounds": 1, "rows": [{"round": 0}], "model": state},
            part / name,
        )
    else:
        (part / name).write_bytes((part / name).read_bytes()[:1000])
    result = invoke(tiny, folder, "--resume")
    assert result.exit_code == 2
    assert (
        "another architecture" if damage == "other" else "cannot be read as a checkpoint"
    ) in result.output
    assert str(part / name) in result.output


def test_splits_that_changed_under_a_run_are_noticed(tiny: dict[str, Any], tmp_path: Path) -> None:
    from data_partition.colored_mnist import Options, build

    data = tmp_path / "splits"
    config = change(tiny, "data_args", data_cache_dir=str(data))
    build(Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=1), raw=None, out=data)
    folder = tmp_path / "run"
    assert invoke(config, folder).exit_code == 0
    options = Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=2)
    build(options, raw=None, out=data, overwrite=True)
    result = invoke(config, folder, "--resume")
    assert result.exit_code == 2
    assert "was made from other settings or data (changed: data)" in result.output


def everything_in(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


REFUSED: list[tuple[str, ...]] = [
    (),
    ("--resume", "--set", "data_args.data_cache_dir=OTHER"),
    ("--resume", "--set", "data_args.data_cache_dir=/nowhere"),
    ("--resume", "--set", "data_args.data_cache_dir=DAMAGED"),
    ("--resume", "--set", "data_args.dataset=mine"),
    ("--resume", "--set", "data_args={dataset: colored_mnist, partition: {source: digits, clients: 3}}"),
    ("--resume", "--set", "train_args.epochs=2"),
    ("--resume", "--set", "train_args.client_num_per_round=9"),
    ("--resume", "--set", "train_args.learning_rate=-1"),
    ("--resume", "--set", "model_args.fc_width=9"),
    ("--resume", "--set", "model_args.fc_width=900000000"),
    ("--resume", "--set", "model_args.model=nowhere:Net"),
    ("--resume", "--set", "attack_args.steps=3"),
    ("--resume", "--set", "personalization_args.clients=['0099']"),
    ("--resume", "--set", "personalization_args.clients=['0001']"),
    ("--resume", "--set", "personalization_args.epochs=3"),
    ("--resume", "--set", "experiment_args.fl_seeds=[1]"),
    ("--resume", "--set", "experiment_args.fl_seeds=[0, 1, 2]", "--set", "device_args.using_gpu=true"),
    ("--resume", "--set", "experiment_args.methods=[global, ft]"),
    ("--resume", "--set", "experiment_args.methods=[global, ft, ours, nowhere:Method]"),
    ("--resume", "--set", "experiment_args.grids.ours.lam_adv=[-1.0]"),
    ("--resume", "--set", "comm_args.backend=MPI"),
    ("--resume", "--set", "comm_args.backend=GRPC"),
    ("--resume", "--set", "comm_args.backend=NCCL"),
    ("--resume", "--set", "no_such_section.key=1"),
    ("--resume", "--set", "train_args.epochs"),
    ("--resume", "--rank", "0", "--role", "server"),
]


@pytest.mark.parametrize("options", REFUSED)
def test_a_refused_command_leaves_a_finished_run_as_it_was(
    options: tuple[str, ...], finished: Finished, conflicting_splits: Path, splits: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(splits, damaged)
    (damaged / "colored_mnist_test_bc.h5").write_bytes(b"")
    places = {"OTHER": str(conflicting_splits), "DAMAGED": str(damaged)}
    given = [
        functools.reduce(lambda text, name: text.replace(name, places[name]), places, o) for o in options
    ]
    before = everything_in(finished.folder)
    result = invoke(finished.config, finished.folder, *given)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert everything_in(finished.folder) == before


def test_splits_of_the_user_in_the_place_of_a_run_s_own_are_not_replaced(
    tiny: dict[str, Any], splits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(splits, folder / "data")
    before = everything_in(folder)
    tiny["data_args"] = {"dataset": "colored_mnist", "partition": {"source": "digits", "clients": 3}}
    result = invoke(tiny, folder)
    assert result.exit_code == 2
    assert "already there, made differently" in result.output
    assert everything_in(folder) == before


def test_a_refused_run_leaves_no_folder_that_was_not_there(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["train_args"]["client_num_per_round"] = 9
    assert invoke(tiny, tmp_path / "run", "--output", str(tmp_path / "a/b/run")).exit_code == 2
    assert not (tmp_path / "a").exists()
