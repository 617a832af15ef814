"""Processes that are killed, hang, fail or do not belong together: all end, say why, and --resume goes on."""

from __future__ import annotations

import copy
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jobs import Job, free_ports, mpirun, require_same_run
from running import invoke

TIMEOUT = 5.0
# What a run is at that has noted a round or a client: the next one, or still what belongs to that one.
IN_ROUNDS = r"(training, seed fl0, round \d+|the measurement of round \d+, seed fl0)"
IN_PERSONALIZATION = r"(personalization, client \d{4}|work on the global model fl0)"

# The method of a user, which fails for one client.
FAULTY = """
from fedml_spurious.personalization.fine_tuning import FineTuning

class Faulty(FineTuning):
    name = "faulty"

    def loss(self, model, batch):
        raise ZeroDivisionError("a mistake of the user")
"""


@pytest.fixture
def config(tiny: dict[str, Any]) -> dict[str, Any]:
    """Long enough to be hit in the middle."""
    config = copy.deepcopy(tiny)
    config["model_args"]["fc_width"] = 8
    config["train_args"] |= {"comm_round": 40, "epochs": 4}
    config["validation_args"] = {"frequency_of_the_test": 100}  # what is hit is training
    config["personalization_args"] |= {"epochs": 20}
    config["device_args"] = {"threads": 1}
    config["comm_args"] = {"timeout": TIMEOUT, "start_timeout": 200}
    return config


@pytest.fixture(scope="module")
def references() -> dict[str, Path]:
    return {}


@pytest.fixture
def reference(
    config: dict[str, Any], references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same run in one process, undisturbed."""
    if "run" not in references:
        references["run"] = tmp_path_factory.mktemp("reference") / "run"
        assert invoke(config, references["run"]).exit_code == 0
    return references["run"]


@pytest.fixture
def job(config: dict[str, Any], tmp_path: Path) -> Iterator[Job]:
    job = Job(config, tmp_path / "run")
    yield job
    job.clean_up()


@pytest.mark.parametrize(
    ("workers", "event", "doing"),
    [(2, "round", IN_ROUNDS), (1, "client", IN_PERSONALIZATION)],
)
def test_a_killed_worker_ends_the_run_which_then_resumes(
    workers: int, event: str, doing: str, job: Job, config: dict[str, Any], reference: Path
) -> None:
    process = job.mpirun(1 + workers)
    job.wait_for(event)
    job.ranks()[workers].kill()
    status, output = job.end(process)
    assert status == 128 + signal.SIGKILL
    assert re.search(f"rank {workers} died in {doing}", output), output
    assert "continue with" in output
    assert "--resume" in output
    job.require_none_left()
    assert invoke(config, job.folder, "--resume").exit_code == 0
    require_same_run(job.folder, reference)


def test_a_worker_that_hangs_is_given_up_and_the_run_goes_on_with_a_full_disk_for_its_log(
    job: Job, reference: Path
) -> None:
    process = job.mpirun(2)
    job.wait_for("client")
    stopped = time.monotonic()
    job.ranks()[1].send_signal(signal.SIGSTOP)
    status, output = job.end(process)
    assert status == 1, output
    assert TIMEOUT - 1 < time.monotonic() - stopped < 10 * TIMEOUT
    assert "rank 1 gave no sign of life" in output
    assert "--resume" in output
    job.require_none_left()
    log = job.folder / "logs" / "rank1.log"
    log.unlink()
    log.symlink_to("/dev/full")
    status, output = job.end(job.mpirun(2, "--resume"))
    assert status == 0, output
    require_same_run(job.folder, reference)


def test_a_server_that_dies_takes_its_worker_along(job: Job) -> None:
    process = job.mpirun(2)
    job.wait_for("round")
    job.ranks()[0].kill()
    status, output = job.end(process)
    assert status == 128 + signal.SIGKILL
    assert "rank 0 died" in output
    assert "--resume" in output
    job.require_none_left()


def test_a_killed_mpirun_leaves_no_process_and_no_temporary_file(job: Job, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = job.mpirun(2, TMPDIR=str(temporary))
    job.wait_for("round")
    assert list(temporary.glob("fedml_spurious_*"))
    process.kill()
    process.communicate()
    job.require_none_left(15)
    assert not list(temporary.glob("fedml_spurious_*"))
    assert not list(job.folder.glob(".scratch*"))


def test_a_server_that_was_stopped_does_not_blame_those_who_gave_it_up(job: Job) -> None:
    process = job.mpirun(2)
    job.wait_for("round")
    job.ranks()[0].send_signal(signal.SIGSTOP)
    status, output = job.end(process)
    assert status == 1, output
    assert "rank 0 was silent" in output
    assert "died" not in output  # the workers left because of that
    job.require_none_left()


def test_the_log_says_how_to_go_on_where_mpirun_itself_was_ended(job: Job) -> None:
    process = job.mpirun(2)
    job.wait_for("round")
    process.terminate()
    job.end(process)
    log = (job.folder / "run.log").read_text().splitlines()
    # FedML's receiving thread may still write between and after them.
    lines = [line for line in log if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    assert re.match(f"Error: rank 0 ended by SIGTERM in {IN_ROUNDS}", lines[-2]), lines
    assert lines[-1].endswith("--resume")
    job.require_none_left()


def test_a_worker_that_cannot_write_its_log_says_so(job: Job) -> None:
    job.folder.mkdir()
    (job.folder / "logs").write_text("in the way")
    (job.folder / "run.log").write_text("")
    (job.folder / "data").mkdir()
    status, output = job.end(job.mpirun(2))
    assert status == 2, output
    said = " ".join(output.split())
    assert f"rank 1 in opening its log: {job.folder}/logs/rank1.log: the log cannot be written" in said
    assert "Traceback" not in output
    assert "Its log is" not in output
    job.require_none_left()


def test_an_interrupted_server_tells_its_silos(job: Job, tmp_path: Path) -> None:
    server, *silos = job.grpc(2, free_ports(3))
    job.wait_for("round")
    server.send_signal(signal.SIGINT)
    status, output = job.end(server)
    assert status == 130
    assert "--resume --rank 0 --role server" in output
    for rank, silo in enumerate(silos, start=1):
        status, output = job.end(silo)
        assert status == 1
        assert f"rank {rank}: rank 0 ended the run: it was interrupted" in output
        assert f"--resume --rank {rank} --role client" in output
        assert "Traceback" not in output
    job.require_none_left()


def test_an_exception_in_a_worker_names_rank_and_client(
    job: Job, config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "own_method.py").write_text(FAULTY)
    config["experiment_args"] = {"methods": ["global", "own_method:Faulty"]}
    config["train_args"]["comm_round"] = 1
    job = Job(config, job.folder)
    status, output = job.end(job.mpirun(2, PYTHONPATH=str(tmp_path)))
    assert status == 1
    assert "ZeroDivisionError: a mistake of the user" in output
    assert "in personalization, client 000" in output
    assert "method faulty" in output
    assert "Traceback" not in output
    failed = [log for log in (job.folder / "logs").iterdir() if "a mistake of the user" in log.read_text()]
    assert failed
    assert "Traceback" in failed[0].read_text()
    job.require_none_left()


def test_ranks_with_other_settings_or_splits_are_refused(
    job: Job, config: dict[str, Any], splits: Path, tmp_path: Path
) -> None:
    other = copy.deepcopy(config)
    other["train_args"]["learning_rate"] = 0.002
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(other))
    output = refused(job, path)
    assert "rank 1" in output
    assert "train_args.learning_rate: 0.002 there, 0.001 on rank 0" in output
    from data_partition.colored_mnist import Options, build

    build(
        Options(source="digits", clients=4, classes_per_client=3, limit=240, seed=2),
        raw=None,
        out=tmp_path / "others",
    )
    other = config | {"data_args": config["data_args"] | {"data_cache_dir": str(tmp_path / "others")}}
    path.write_text(yaml.safe_dump(other))
    assert "rank 1" in (output := refused(job, path))
    assert f"has other split files in {tmp_path / 'others'}" in output


def refused(job: Job, other: Path) -> str:
    """Start rank 0 with the job's configuration and rank 1 with another one."""
    backend = ("--set", "comm_args.backend=MPI")
    first = [*mpirun(1), *job.arguments(*backend)]
    process = job.start([*first, ":", "-np", "1", *job.arguments(*backend, config=other)])
    status, output = job.end(process)
    assert status == 2, output
    assert not job.folder.exists()
    job.require_none_left()
    return output


@pytest.mark.parametrize(
    ("processes", "backend", "message"),
    [
        (1, "MPI", "needs a server and at least one worker, but mpirun started 1 process"),
        (2, "sp", "comm_args.backend: is sp, one process, but mpirun started 2"),
    ],
)
def test_a_wrong_number_of_processes_is_refused(processes: int, backend: str, message: str, job: Job) -> None:
    command = [*mpirun(processes), *job.arguments("--set", f"comm_args.backend={backend}")]
    status, output = job.end(job.start(command))
    assert status == 2
    assert output.count(message) == 1
    assert not job.folder.exists()


def test_over_grpc_a_killed_silo_or_server_ends_the_others(
    job: Job, config: dict[str, Any], reference: Path
) -> None:
    server, *silos = job.grpc(2, free_ports(3))
    job.wait_for("round")
    silos[1].kill()
    status, output = job.end(server)
    assert status == 1
    assert "rank 2 gave no sign of life" in output
    status, output = job.end(silos[0])
    assert status == 1
    assert "rank 0 ended the run: rank 2 gave no sign of life" in output
    job.started.clear()
    server, silo = job.grpc(1, free_ports(2), "--resume")
    job.wait_for("client")
    server.kill()
    status, output = job.end(silo)
    assert status == 1
    assert "rank 0 was silent" in output
    assert "in personalization, client" in output
    assert "--resume" in output
    job.require_none_left()
    shutil.rmtree(job.folder / "silos", ignore_errors=True)
    assert invoke(config, job.folder, "--resume").exit_code == 0
    require_same_run(job.folder, reference)
