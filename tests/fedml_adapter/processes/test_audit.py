"""An audit by workers and by silos finds the bytes of an audit in one process, and images stay in silos."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quick_start
import yaml
from click.testing import CliRunner
from in_threads import CPU, remote
from jobs import SPY, Job, free_ports, groups_read, mpirun
from rich.console import Console
from running import Finished

from data_partition.split_files.folder import SplitFolder
from fedml_spurious.audit.client import make_options
from fedml_spurious.audit.files import write_audit
from fedml_spurious.audit.of_run import audit_run
from fedml_spurious.audit.opening import open_run, run_settings
from fedml_spurious.audit.peers import PeerCounts
from fedml_spurious.audit.tasks import AuditClient, ClientFindings, CountAtPeer, FindModels
from fedml_spurious.cli import main
from fedml_spurious.common.errors import InputError, RunError
from fedml_spurious.config.file import load_settings
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.experiment.tasks import TaskRunner
from fedml_spurious.fedml_adapter.processes.endpoint import Endpoint
from fedml_spurious.learning.state_dicts import State, copy_state

ASKED = ("--probe", "colour", "--peers", "--truth")
AUDIT = [sys.executable, quick_start.__file__, "fedml_spurious.cli", "audit"]
FILES = ("audit.csv", "audit.json")
KILLER = """
import os, signal

def probe(image, donor, draw):
    os.kill(os.getpid(), signal.SIGKILL)
"""
SILO_OF = {"0000": 1, "0001": 2, "0002": 1, "0003": 2}  # dealt in turn


@pytest.fixture(scope="module")
def alone(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, audited in one process."""
    folder = Path(shutil.copytree(finished.folder, tmp_path_factory.mktemp("alone") / "run"))
    result = CliRunner().invoke(main, ["audit", str(folder), *ASKED])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(finished: Finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture
def of_silos(run: Path) -> Path:
    """The run as two silos leave it."""
    (run / "checksums.jsonl").unlink()
    for path in sorted(run.glob("personal/**/models/*.pt")):
        there = run / f"silos/rank{SILO_OF[path.stem]}" / path.relative_to(run)
        there.parent.mkdir(parents=True, exist_ok=True)
        path.rename(there)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["common_args"]["training_type"] = "cross_silo"
    config["comm_args"]["backend"] = "MPI"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def require_same(folder: Path, alone: Path, *, pictured: bool) -> None:
    for name in FILES:
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), name
    if pictured:
        assert (folder / "audit.png").read_bytes() == (alone / "audit.png").read_bytes()
    else:
        assert not (folder / "audit.png").exists()


def arrays(content: Any) -> Iterator[np.ndarray[Any, Any]]:
    if isinstance(content, np.ndarray):
        yield content
    elif isinstance(content, dict | list):
        for item in content.values() if isinstance(content, dict) else content:
            yield from arrays(item)


@pytest.mark.parametrize("silos", [False, True])
def test_workers_and_silos_find_the_bytes_of_one_process_and_no_image_leaves_a_silo(
    silos: bool, request: pytest.FixtureRequest, alone: Path, splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder: Path = request.getfixturevalue("of_silos" if silos else "run")
    sent: list[Any] = []
    post = Endpoint.post
    monkeypatch.setattr(
        Endpoint, "post", lambda self, *message: sent.append(message[-1]) or post(self, *message)
    )
    settings = run_settings(folder, None, ())
    options = make_options("colour", peers=True, tolerance=0.05, truth=True)
    subject = open_run(folder, settings, with_silos=silos)
    with remote(settings, splits, 2, silos=silos, given=options, folder=folder) as (workers, _):
        audited = audit_run(subject, workers, options, Console(quiet=True))
    write_audit(folder, audited, truth=True)
    require_same(folder, alone, pictured=not silos)
    weights = {tuple(value.shape) for value in subject.stored.global_model().state_dict().values()}
    others = {found.shape for content in sent for found in arrays(content) if found.shape not in weights}
    assert others == (set() if silos else {(3, 28, 28)})


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        (FindModels, (True,) * 5, "rank 1 in search for personal models, client 0000: .*5 for 4 models"),
        (AuditClient, ClientFindings(()), r"rank 1 in audit, client 000[02]: .*\(0 for 2 models\)"),
        (AuditClient, "none", "rank 1 in audit, client 000[02]: .*no ClientFindings"),
        (
            CountAtPeer,
            (PeerCounts(9, 0, 0),),
            "rank . in counts for the audit of client .*, client 000[02]: .*1 for 2",
        ),
    ],
)
def test_a_silo_whose_answer_cannot_be_one_is_named(
    task: type[Any],
    answer: object,
    message: str,
    of_silos: Path,
    splits: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = run_settings(of_silos, None, ())
    options = make_options(None, peers=True, tolerance=0.05, truth=False)
    subject = open_run(of_silos, settings, with_silos=True)
    run = task.run
    monkeypatch.setattr(
        task, "run", lambda self, runner: answer if "1" not in self.client else run(self, runner)
    )
    with remote(settings, splits, 2, silos=True, given=options, folder=of_silos) as (workers, _):
        with pytest.raises(RunError, match=message):
            audit_run(subject, workers, options, Console(quiet=True))


def test_a_silo_that_shows_no_model_to_peers_is_one_error(
    of_silos: Path, splits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = run_settings(of_silos, None, ())
    options = make_options(None, peers=True, tolerance=0.05, truth=False)
    subject = open_run(of_silos, settings, with_silos=True)
    run = AuditClient.run
    monkeypatch.setattr(AuditClient, "run", lambda *given: replace(run(*given), states=()))
    with remote(settings, splits, 2, silos=True, given=options, folder=of_silos) as (workers, _):
        with pytest.raises(RunError, match="silo of client 0000 shows its peers 0 of 2 models"):
            audit_run(subject, workers, options, Console(quiet=True))


def test_workers_over_mpi_and_the_command_line(run: Path, alone: Path) -> None:
    job = Job({}, run)
    status, output = job.end(job.start([*mpirun(3), *AUDIT, str(run), *ASKED]))
    assert status == 0, output
    require_same(run, alone, pictured=True)
    said = " ".join(output.split())
    assert said.count(f"Audit of {run} (probe colour, peers, tolerance 0.05)") == 1
    assert output.count("audit.csv and audit.json are in") == 1
    job.require_none_left()


def test_workers_without_the_gpu_of_the_run_say_what_to_add(run: Path) -> None:
    (run / "checksums.jsonl").unlink()
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["device_args"]["using_gpu"] = True
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    job = Job({}, run)
    status, output = job.end(job.start([*mpirun(2), *AUDIT, str(run)], CUDA_VISIBLE_DEVICES=""))
    assert status == 2, output
    said = " ".join(output.split())
    assert "rank 1 in opening the split files: device_args.using_gpu: GPU 0 is asked for, but torch" in said
    assert "; add --set device_args.using_gpu=false (to all processes of a run)" in said
    assert "Traceback" not in output
    assert not (run / "audit.json").exists()
    job.require_none_left()


def test_a_worker_that_is_killed_ends_the_audit_which_leaves_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    job = Job({}, run)
    command = [*mpirun(2), *AUDIT, str(run), "--probe", "killer:probe"]
    status, output = job.end(job.start(command, PYTHONPATH=str(tmp_path)))
    assert status == 128 + signal.SIGKILL, output
    assert "rank 1 died in audit, client 0000. Start it again with:\n  " in output
    assert f"-np 2 fedml-spurious audit {run} --probe killer:probe" in output
    assert not any((run / name).exists() for name in FILES)
    job.require_none_left()


def test_silos_over_mpi_read_their_own_clients_only(of_silos: Path, alone: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPY)
    job = Job({}, of_silos)
    command = [*mpirun(3), *AUDIT, str(of_silos), *ASKED]
    status, output = job.end(job.start(command, PYTHONPATH=str(tmp_path), SPY=str(tmp_path / "spy")))
    assert status == 0, output
    require_same(of_silos, alone, pictured=False)
    clients = {rank: {name for name, owner in SILO_OF.items() if owner == rank} for rank in range(3)}
    assert groups_read(tmp_path / "spy", 3) == clients
    job.require_none_left()


def test_a_silo_over_grpc_has_a_folder_of_its_own_and_the_server_no_samples(
    of_silos: Path, alone: Path, splits: Path, tmp_path: Path
) -> None:
    description = tmp_path / "description"
    description.mkdir()
    shutil.copy(splits / "colored_mnist_meta.json", description)
    config = shutil.copy(of_silos / "config.yaml", tmp_path / "config.yaml")
    elsewhere = tmp_path / "host/run"
    for rank in (1, 2):  # all clients are with the one silo
        shutil.copytree(of_silos / f"silos/rank{rank}", elsewhere / "silos/rank1", dirs_exist_ok=True)
    shutil.rmtree(of_silos / "silos")
    common = [*ASKED, "--set", "comm_args.silos=1", "--set", f"comm_args.grpc_base_port={free_ports(2)}"]
    job = Job({}, of_silos)
    here = ["--set", f"data_args.data_cache_dir={description}", "--rank", "0", "--role", "server"]
    there = ["--cf", str(config), "--rank", "1", "--role", "client"]
    server = job.start([*AUDIT, str(of_silos), *common, *here])
    silo = job.start([*AUDIT, str(elsewhere), *common, *there])
    for process in (server, silo):
        status, output = job.end(process)
        assert status == 0, output
    require_same(of_silos, alone, pictured=False)
    assert {path.name for path in elsewhere.iterdir()} == {"silos", "logs"}
    job.require_none_left()


def test_a_peer_counts_against_the_global_model_as_the_asker_has_it(of_silos: Path, splits: Path) -> None:
    """Against itself no model gains or loses anything, and two models change places with each other."""
    settings = load_settings(of_silos / "config.yaml")
    options = make_options(None, peers=True, tolerance=0.05, truth=False)
    runner = TaskRunner(settings, dict.fromkeys((0, 1), SplitFolder(splits)), CPU, given=options)
    stored = open_run(of_silos, settings).stored
    first, second = (copy_state(stored.global_model(fl_seed)) for fl_seed in (0, 1))
    runner.use(stored.global_model(0), 0)

    def counts(*states: State, reference: State | None = None) -> tuple[PeerCounts, ...]:
        task = CountAtPeer("0001", "0000", (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), states, reference)
        return runner.run(task)  # type: ignore[no-any-return]

    images = sum(stored.splits.count("0001", split) for split in ("val", "test"))
    same = PeerCounts(images, 0, 0)
    assert counts(first) == (same,)
    _, there = counts(first, second)
    assert there.gained + there.lost > 0
    assert counts(second, first, reference=second) == (same, PeerCounts(images, there.lost, there.gained))


def test_a_silo_without_the_models_is_told_so(of_silos: Path, splits: Path) -> None:
    settings = load_settings(of_silos / "config.yaml")
    store = ResultStore(RunFolder(of_silos / "silos/rank1"))
    runner = TaskRunner(settings, dict.fromkeys((0, 1), SplitFolder(splits)), CPU, store)
    keys = [ResultKey("ft", 0, 0, "0000"), ResultKey("ft", 0, 7, "0000")]
    assert runner.run(FindModels("0000", tuple(keys))) == (True, False)
    other = FindModels("0001", (ResultKey("ft", 0, 0, "0001"),))
    with pytest.raises(InputError, match="silos/rank1: holds no personal model of client 0001; give each"):
        runner.run(other)


def test_a_silo_shows_no_model_where_it_was_not_asked_for_peers(of_silos: Path, splits: Path) -> None:
    """Whatever the message of the server says: the consent is the silo's own."""
    settings = load_settings(of_silos / "config.yaml")
    task = AuditClient("0000", (ResultKey("ft", 0, 0, "0000"),), 0.03, examples=12)
    answers = {}
    for peers in (False, True):
        options = make_options("colour", peers=peers, tolerance=0.05, truth=False)
        store = ResultStore(RunFolder(of_silos / "silos/rank1"))
        runner = TaskRunner(settings, dict.fromkeys((0, 1), SplitFolder(splits)), CPU, store, options)
        model = open_run(of_silos, settings).stored.global_model(0)
        runner.use(model, 0)
        answers[peers] = runner.run(task)
    assert answers[False].states == ()
    assert answers[True].states[0].keys() == model.state_dict().keys()
    assert answers[False].examples == answers[True].examples == ()
