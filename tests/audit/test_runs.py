"""The audit of finished runs: what it writes, what it does not look at, and what it refuses."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from federations import audit, audited
from running import Finished, read_rows

from data_partition.split_files.folder import SplitFolder
from data_partition.split_files.meta import read_meta, write_meta
from fedml_spurious.analysis import reliance
from fedml_spurious.audit.tasks import AuditClient
from fedml_spurious.cli import main
from fedml_spurious.common.errors import DivergedError, SealedError
from fedml_spurious.common.scratch import hold_folder
from fedml_spurious.experiment.stored_run import Run
from fedml_spurious.results.rows import read_results, write_results

FILES = ("audit.csv", "audit.json", "audit.png")


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Path:
    """A run of two federated seeds, with its models, to be written into."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_every_personal_model_has_a_row_that_its_images_explain(run: Path) -> None:
    summary, rows = audited(run, "--probe", "colour", "--peers")
    results = [row for row in read_rows(run / "results.csv") if row["method"] != "global"]
    place = ("method", "fl_seed", "p_seed", "client")
    assert [[row[name] for name in place] for row in rows] == [
        [row[name] for name in place] for row in results
    ]
    counts = {method: sum(found["models"].values()) for method, found in summary["methods"].items()}
    assert counts == {"ft": 8, "ours": 8}
    for row, result in zip(rows, results, strict=True):
        assert int(row["images"]) == int(result["n_val"]) + int(result["n_test"])
        assert row["acc_adv_personal"] == result["acc_adv"]
        correct = float(result["acc_b"]) * int(result["n_test"]) + float(result["val_acc"]) * int(
            result["n_val"]
        )
        assert float(row["acc_personal"]) * int(row["images"]) == pytest.approx(correct)
        assert float(row["kl"]) >= 0
        assert float(row["delta_low"]) <= float(row["delta"]) <= float(row["delta_high"])
        assert int(row["peers"]) <= 3
    assert "delta_truth" not in rows[0]
    assert "truth" not in summary["methods"]["ft"]


def test_what_peers_find_of_each_model_is_counted_by_hand(run: Path) -> None:
    """All that both models get right on the others' images of the client's classes, one image at a time."""
    _, rows = audited(run, "--peers")
    stored = Run(run)
    clients = stored.splits.meta.clients
    for row in rows:
        fl_seed, client = int(row["fl_seed"]), row["client"]
        part = f"personal/{row['method']}/fl{fl_seed}_p{row['p_seed']}/models/{client}.pt"
        models = [stored.global_model(fl_seed), stored.global_model(fl_seed)]
        models[1].load_state_dict(torch.load(run / part, weights_only=True))
        differences: list[int] = []
        for other in set(clients) - {client}:
            for split in ("val", "test"):
                samples = stored.splits.load(other, split)
                for image, label in zip(samples.image, samples.label, strict=True):
                    if label in clients[client].classes:
                        x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
                        right = [int(model.eval()(x).argmax() == label) for model in models]
                        differences.append(right[1] - right[0])
        assert int(row["peer_images"]) == len(differences)
        if differences:
            expected = float(row["change"]) - np.mean(differences)
            assert float(row["peer_delta"]) == pytest.approx(expected, abs=1e-12)
        else:
            assert row["peer_delta"] == ""
    assert len({row["peer_delta"] for row in rows}) > 3, "or models could change places"


def test_a_setting_that_differs_between_hosts_may_be_another(run: Path, splits: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(splits, tmp_path / "moved")
    audited(run, "--probe", "colour")
    before = contents(run)
    audited(run, "--probe", "colour", "--set", f"data_args.data_cache_dir={moved}")
    assert contents(run) == before


def test_the_folder_of_a_silo_tells_no_settings(tmp_path: Path) -> None:
    (tmp_path / "run/silos/rank1").mkdir(parents=True)
    result = audit(tmp_path / "run", "--rank", "1", "--role", "client")
    assert result.exit_code == 2
    assert "has no config.yaml, as the folder of a silo on a machine of its own; name the" in result.output


def test_a_folder_that_another_process_holds_is_refused(run: Path) -> None:
    with hold_folder(run):
        result = audit(run)
    assert result.exit_code == 2
    assert "another process is working on the run in this folder; wait for it or end it" in result.output
    assert "--output" not in result.output


def test_the_same_bytes_twice_and_a_run_named_twice_is_one(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    result = audit(other, run, run, "--probe", "colour")
    assert result.exit_code == 0, result.output
    assert contents(run) == contents(other)
    assert result.output.count("Verdicts on personal models") == 2


def test_the_models_of_silos_are_found_and_their_images_stay(run: Path, tmp_path: Path) -> None:
    (run / "checksums.jsonl").unlink()
    alone = shutil.copytree(run, tmp_path / "alone")
    for rank, client in ((1, "0000"), (1, "0002"), (2, "0001")):
        for path in sorted(run.glob(f"personal/**/models/{client}.pt")):
            there = run / f"silos/rank{rank}" / path.relative_to(run)
            there.parent.mkdir(parents=True, exist_ok=True)
            path.rename(there)
    for path in run.glob("personal/**/models/0003.pt"):  # with a silo that is elsewhere
        path.unlink()
    summary, rows = audited(run, "--probe", "colour")
    _, expected = audited(alone, "--probe", "colour")
    assert rows == [row for row in expected if row["client"] != "0003"]
    assert summary["absent"] == 4


def test_what_the_run_measured_on_conflicting_samples_changes_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, and with every reading of a bias-conflicting set watched, the same bytes come out."""
    blind = Path(shutil.copytree(run, tmp_path / "blind"))
    (blind / "checksums.jsonl").unlink()
    rows = read_results(blind / "results.csv")
    write_results(
        blind / "results.csv",
        [type(row)(**(vars(row) | {"acc_bc": None, "disparity": None, "loss_bc": None})) for row in rows],
    )
    read: list[str] = []
    load = SplitFolder.load
    monkeypatch.setattr(
        SplitFolder, "load", lambda self, client, split: read.append(split) or load(self, client, split)
    )
    for folder in (run, blind):
        assert audit(folder, "--probe", "colour", "--peers").exit_code == 0
    assert contents(run) == contents(blind)
    assert set(read) == {"train", "val", "test"}


def test_it_is_sealed_while_models_answer(run: Path, splits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[bool] = []
    opened: list[SplitFolder] = []
    make, predict = SplitFolder.__init__, reliance.predict

    def remember(self: SplitFolder, *arguments: object, **options: object) -> None:
        make(self, *arguments, **options)  # type: ignore[arg-type]
        opened.append(self)

    def curious(*arguments: object) -> torch.Tensor:
        for folder in opened:
            with pytest.raises(SealedError):
                folder.load("0000", "test_bc")
            refused.append(True)
        return predict(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SplitFolder, "__init__", remember)
    monkeypatch.setattr(reliance, "predict", curious)
    assert audit(run, "--probe", "colour", "--truth").exit_code == 0
    assert refused


def test_the_truth_is_what_the_run_measured(run: Path) -> None:
    summary, rows = audited(run, "--probe", "colour", "--truth")
    results = {
        (row["method"], row["fl_seed"], row["client"]): float(row["disparity"])
        for row in read_rows(run / "results.csv")
    }
    for row in rows:
        personal, reference = (
            results[name, row["fl_seed"], row["client"]] for name in (row["method"], "global")
        )
        assert float(row["delta_truth"]) == personal - reference
    ours = [row for row in rows if row["method"] == "ours"]
    truth = summary["methods"]["ours"]["truth"]
    assert truth["delta"] == pytest.approx(np.mean([float(row["delta_truth"]) for row in ours]))
    inside = 0
    for row in ours:
        low, high = float(row["delta_of_set_low"]), float(row["delta_of_set_high"])
        inside += low <= float(row["delta_truth"]) <= high
        assert low <= float(row["delta_low"]) <= float(row["delta_high"]) <= high
    assert (truth["compared"], truth["covered"]) == (8, inside)


def half_strength(image: torch.Tensor, donor: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    return image / 2 + donor / 2


def breaks_later(image: torch.Tensor, donor: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    calls.append(1)
    return image * 2 if len(calls) > 100 else image


calls: list[int] = []


def test_an_audit_that_fails_leaves_the_one_of_before(run: Path) -> None:
    assert audit(run, "--probe", "test_runs:half_strength").exit_code == 0
    before = contents(run)
    result = audit(run, "--probe", "test_runs:breaks_later", "--peers")
    assert result.exit_code == 2
    assert "--probe test_runs:breaks_later: gave values from 0 to" in result.output
    assert contents(run) == before
    # Without a probe there are no images to look at, and none of the audit before are left.
    assert audit(run).exit_code == 0
    assert not (run / "audit.png").exists()


def test_a_global_model_that_diverged_is_trained_again_and_not_audited_elsewhere(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: object) -> None:
        raise DivergedError("an output is NaN")

    monkeypatch.setattr(AuditClient, "run", diverged)
    result = audit(run)
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    assert "audit, client 0000: an output is NaN: the global model diverged. Lower" in said
    assert said.endswith("train_args.learning_rate (is 0.001), make the run again, and audit that one")


def without_models(folder: Path) -> None:
    for path in folder.glob("personal/**/*.pt"):
        path.unlink()


def broken_model(folder: Path) -> None:
    next(iter(sorted(folder.glob("personal/ft/*/models/*.pt")))).write_bytes(b"PK")


def unfinished(folder: Path) -> None:
    (folder / "results.csv").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_models, "no personal model is here; make the run again with"),
        (broken_model, "is not what this run wrote"),
        (unfinished, "the run is unfinished, it has no results.csv"),
    ],
)
def test_a_run_that_cannot_be_audited_is_one_message(
    run: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(run)
    result = audit(run, "--probe", "colour")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not any((run / name).exists() for name in FILES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to audit; give folders of finished runs, or two models: --global, --personal, --model"),
        (["RUN", "--client", "0001"], "--client: is for two models that are of no run"),
        (["RUN", "--out", "there"], "--out: is for two models that are of no run"),
        (["RUN", "--probe", "texture"], "--probe: unknown probe 'texture'; expected colour"),
        (["RUN", "--probe", "region:0,99,0,4"], "reaches beyond the images, which have 28 rows"),
        (["RUN", "--tolerance", "2"], "--tolerance: is 2, expected"),
        (["RUN", "--tolerance", "much"], "'much' is not a valid float"),
        (["RUN", "nowhere"], "nowhere: no such folder; give folders of finished runs"),
        (["RUN", ""], "argument 2: is empty"),
        (["--global", "a.pt"], "--personal: missing; two models need"),
        (["RUN", "--set", "train_args.epochs=9"], "of another configuration train_args.epochs: was 1, is 9"),
        # With these the run could be continued; an audit would not heed them.
        (["RUN", "--set", "personalization_args.ours.lam_adv=9.0"], "personalization_args.ours.lam_adv: was"),
        (["RUN", "--set", "personalization_args.save_models=false"], "save_models: was True, is False"),
        (["RUN", "--set", "experiment_args.fl_seeds=[0, 1, 2]"], "fl_seeds: was [0, 1], is [0, 1, 2]"),
        (
            ["RUN", "--set", "common_args.training_type=cross_silo", "--set", "comm_args.backend=MPI"],
            "common_args.training_type: was 'simulation', is 'cross_silo' An audit takes",
        ),
        (["RUN", "--cf", "quickstart"], "is a run of another configuration"),
        (["RUN", "--cf", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["nowhere", "--cf", "quickstart"], "nowhere: no such folder; give the folder that this"),
        (["RUN", "--rank", "1"], "comm_args: GRPC needs to know its processes"),
        (["RUN", "--rank", "1", "--set", "comm_args.silos=2"], "give --rank 0 --role server to one"),
        (
            ["RUN", "--rank", "3", "--role", "client", "--set", "comm_args.silos=2"],
            "--rank 3: expected 0 to 2",
        ),
    ],
)
def test_wrong_options_are_one_message(run: Path, arguments: list[str], message: str) -> None:
    result = audit(*(str(run) if part == "RUN" else part for part in arguments))
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (run / "audit.csv").exists()


def test_peers_among_silos_are_refused(run: Path) -> None:
    among_silos(run)
    result = audit(run, "--probe", "colour", "--peers")
    assert result.exit_code == 2, result.output
    assert "--peers" in result.output
    assert "is a run of silos, which read no client of another; start its silos" in result.output
    audited(run, "--probe", "colour")
    assert not (run / "audit.png").exists()


def among_silos(folder: Path) -> None:
    (folder / "checksums.jsonl").unlink()
    text = (folder / "config.yaml").read_text()
    text = re.sub("training_type: .*", "training_type: cross_silo", text)
    (folder / "config.yaml").write_text(text.replace("backend: sp", "backend: MPI"))


def of_smaller_images(folder: Path) -> None:
    """Whatever is said of their size, which nobody compares with the images here."""
    (folder / "checksums.jsonl").unlink()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    data = Path(shutil.copytree(config["data_args"]["data_cache_dir"], folder.parent / "smaller"))
    config["data_args"]["data_cache_dir"] = str(data)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    meta = read_meta(data / "colored_mnist_meta.json")
    write_meta(data, meta.model_copy(update={"image_shape": (8, 8, 3)}))


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (among_silos, ["--peers"], "other is a run of silos, which read no client of another"),
        (without_models, [], "other: no personal model is here"),
        (of_smaller_images, ["--probe", "region:0,9,0,4"], "beyond the images, which have 8 rows"),
    ],
)
def test_what_refuses_a_later_run_is_found_before_the_first_is_audited(
    spoil: Callable[[Path], None], arguments: list[str], message: str, run: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    spoil(other)
    result = audit(run, other, *arguments)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not any((run / name).exists() for name in FILES)


def test_a_later_run_that_is_held_is_found_before_the_first_is_audited(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    with hold_folder(other):
        result = audit(run, other)
    assert result.exit_code == 2
    assert "other: another process is working on the run" in " ".join(result.output.split())
    assert not any((run / name).exists() for name in FILES)


def test_a_run_of_silos_stays_one(run: Path, tmp_path: Path) -> None:
    among_silos(run)
    other = tmp_path / "other.yaml"
    other.write_text((run / "config.yaml").read_text().replace("cross_silo", "simulation"))
    for arguments in (["--set", "common_args.training_type=simulation"], ["--cf", str(other)]):
        result = audit(run, "--peers", *arguments)
        assert result.exit_code == 2, result.output
        assert "common_args.training_type: was 'cross_silo', is 'simulation'" in result.output
        assert "--set replaces what differs between hosts: comm_args, device_args," in result.output
    assert not any((run / name).exists() for name in FILES)


def test_a_setting_that_is_replaced_by_itself_is_none(run: Path) -> None:
    same = ("--set", "personalization_args.save_models=true", "--set", "experiment_args.fl_seeds=[0, 1]")
    assert audit(run, *same, "--set", "device_args.threads=1").exit_code == 0


def test_several_processes_audit_one_run_at_a_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("SIZE", "3"), ("LOCAL_SIZE", "3")):
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    result = audit(run, run)
    assert result.exit_code == 2
    assert "several processes audit one run at a time, and 2 runs were given" in result.output
    two = [part for name in ("global", "personal", "model", "data", "client") for part in (f"--{name}", "x")]
    result = audit(*two)
    assert result.exit_code == 2
    assert "and two models that are of no run were given; start one process" in result.output


def test_another_run_in_the_folder_takes_the_audit_with_it(finished: Finished, run: Path) -> None:
    assert audit(run, "--probe", "colour").exit_code == 0
    config = run / "config.yaml"
    options = [
        "--cf",
        str(config),
        "--output",
        str(run),
        "--resume",
        "--set",
        "experiment_args.personalization_seeds=[0, 1]",
    ]
    result = CliRunner().invoke(main, ["run", *options])
    assert result.exit_code == 0, result.output
    assert not any((run / name).exists() for name in FILES)


def test_the_report_shows_the_audit_and_its_verdicts(run: Path) -> None:
    _, rows = audited(run, "--probe", "colour")
    assert not (run / "report.html").exists()  # this run wants none
    assert CliRunner().invoke(main, ["report", str(run)]).exit_code == 0
    page = (run / "report.html").read_text()
    assert '<section id="audit"' in page
    assert "Audit of run (probe colour, tolerance 0.05)" in page
    assert page.count('data-key="audit"') == 1
    said = {row["verdict"] for row in rows}
    for verdict, short in (
        ("more", "more"),
        ("not more on the attribute you named", "not more"),
        ("cannot say",) * 2,
    ):
        assert (f'data-verdict="{short}" aria-pressed' in page) == (verdict in said)
    for row in rows[:1]:
        assert row["reason"].replace("'", "&#39;") in page
    assert 'download="audit.csv"' in page
    assert (run / "audit.png").is_file()
    assert 'class="probed"' in page
    # Audited again, a report that is there is written anew.
    assert audit(run).exit_code == 0
    assert "Audit of run (no probe, tolerance 0.05)" in (run / "report.html").read_text()
