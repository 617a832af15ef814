"""``fedml-spurious audit``; torch is imported when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedml_spurious.common.advice import for_an_audit, translated
from fedml_spurious.common.allocator import reuse_freed_memory
from fedml_spurious.common.cli_errors import Command, friendly
from fedml_spurious.common.errors import InputError
from fedml_spurious.common.threads import share_cores
from fedml_spurious.common.words import counted

if TYPE_CHECKING:
    from fedml_spurious.config.settings import Settings
    from fedml_spurious.fedml_adapter.processes.ranks import Rank


@click.command(cls=Command)
@click.argument("runs", nargs=-1, metavar="RUN...")
@click.option(
    "--probe",
    metavar="PROBE",
    help="The attribute you suspect: colour, region:TOP,BOTTOM,LEFT,RIGHT in pixels, or module:function.",
)
@click.option(
    "--peers", is_flag=True, help="Show each personal model to up to 10 other clients, which count."
)
@click.option(
    "--tolerance",
    type=float,
    default=0.05,
    show_default=True,
    metavar="SHARE",
    help="Rise of the disparity that counts as none.",
)
@click.option(
    "--truth", is_flag=True, help="Show beside the estimates what the bias-conflicting test sets say."
)
@click.option("--cf", "config", metavar="CONFIG", help="Settings of RUN, for a silo whose folder has none.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Replace a setting of RUN that is another one on this host, such as data_args.data_cache_dir.",
)
@click.option("--rank", type=int, metavar="N", help="Number of this process, over GRPC; as for run.")
@click.option("--role", type=click.Choice(["server", "client"]), help="Rank 0 is the server, others clients.")
@click.option("--global", "global_file", metavar="FILE", help="Without RUN: weights of the global model.")
@click.option("--personal", "personal_file", metavar="FILE", help="Weights of the personal model.")
@click.option("--model", "network", metavar="MODULE:FACTORY", help="What makes the network of both.")
@click.option("--data", metavar="FOLDER", help="Client split files.")
@click.option("--client", metavar="ID", help="The client whose images are used.")
@click.option("--out", metavar="DIR", help="Folder for what is found; audit where absent.")
@friendly
def audit(
    runs: tuple[str, ...],
    probe: str | None,
    peers: bool,
    tolerance: float,
    truth: bool,
    config: str | None,
    overrides: tuple[str, ...],
    rank: int | None,
    role: str | None,
    out: str | None,
    **foreign: str | None,
) -> None:
    """Say which personal models rely more on an attribute than the global model, without conflicting data.

    Of finished runs that kept their models (personalization_args.save_models), or of two models of yours:
    --global, --personal, --model, --data and --client. The answer may be "cannot say".

    Several processes: `mpirun -np N` before it, for one RUN. So, or over GRPC, each started as for run, silos
    audit their own clients.
    """
    share_cores()
    reuse_freed_memory()
    # Last, so that nothing there hides an installed module.
    sys.path.append(os.getcwd())
    # Torch takes seconds to import, which --help must not wait for, and reads what was set above.
    from rich.console import Console

    # The same.
    from fedml_spurious.audit.client import make_options
    from fedml_spurious.audit.command import audit_models, audit_runs, lead_audit
    from fedml_spurious.audit.foreign import ForeignModels
    from fedml_spurious.audit.tasks import AuditClient, CountAtPeer, FindModels
    from fedml_spurious.fedml_adapter.local_workers import local_workers
    from fedml_spurious.fedml_adapter.processes.job import Job
    from fedml_spurious.fedml_adapter.processes.launch import run_rank
    from fedml_spurious.fedml_adapter.processes.ranks import rank_zero_speaks

    with rank_zero_speaks():
        of_runs = {"--cf": config, "--set": overrides or None, "--rank": rank, "--role": role}
        named = [flag for flag, value in of_runs.items() if value is not None]
        given = _check_subject(runs, foreign, out, named)
        process = _find_process(runs, config, overrides, rank, role)
        options = make_options(probe, peers=peers, tolerance=tolerance, truth=truth)
    console = Console(stderr=True)
    if process is not None:
        settings, here = process
        flags = {"--probe": probe, "--peers": peers, "--tolerance": tolerance, "--truth": truth}
        job = Job(
            _command(runs[0], flags | {"--cf": config, "--set": overrides}),
            advice="Start it again with",
            request="start the audit again",
            # Not what is done with the findings, which rank 0 does alone.
            asked={"command": "audit", "probe": probe, "peers": peers},
            given=options,
            only=(AuditClient, CountAtPeer, FindModels),
            words=for_an_audit,
        )
        path = Path(runs[0])
        run_rank(settings, path, here, job, partial(lead_audit, path, settings, options, console))
        return
    with translated(for_an_audit):
        if runs:
            audit_runs(runs, options, console, hire=local_workers, config=config, overrides=overrides)
            return
        models = ForeignModels(
            Path(given["global_file"]),
            Path(given["personal_file"]),
            given["network"],
            Path(given["data"]),
            given["client"],
        )
        audit_models(models, options, Path(out or "audit"), console)


def _find_process(
    runs: tuple[str, ...],
    config: str | None,
    overrides: tuple[str, ...],
    number: int | None,
    role: str | None,
) -> tuple[Settings, Rank] | None:
    """The settings of a run that several processes audit, and which of them this is; None where it is alone.

    How the run itself was made does not matter: ``mpirun`` makes it MPI, ``--rank`` GRPC.

    Raises:
        InputError: the processes were not started as they have to be, or there is more than one run.
    """
    # Late, as above.
    from fedml_spurious.audit.opening import run_settings
    from fedml_spurious.fedml_adapter.processes.ranks import find_rank, mpi_rank

    started = mpi_rank()
    over_mpi, over_grpc = started is not None and started.size > 1, number is not None or role is not None
    if not (over_mpi or over_grpc):
        return None
    if len(runs) != 1:
        what = counted(len(runs), "run") if runs else "two models that are of no run"
        raise InputError(
            f"several processes audit one run at a time, and {what} were given; start one process"
            + (", or them once for each run" if runs else "")
        )
    backend = f"comm_args.backend={'GRPC' if over_grpc else 'MPI'}"
    settings = run_settings(Path(runs[0]), config, (*overrides, backend))
    rank = find_rank(settings, number, role)
    return None if rank is None else (settings, rank)


def _command(run: str, flags: Mapping[str, object]) -> str:
    """The command that starts an audit again, as far as it is the same for all processes."""
    parts = ["fedml-spurious", "audit", run]
    for flag, value in flags.items():
        if value is True:
            parts.append(flag)
        elif value is not None and value is not False:
            each = value if isinstance(value, tuple) else (value,)
            parts += [part for one in each for part in (flag, str(one))]
    return shlex.join(parts)


_FLAGS = {
    "global_file": "--global",
    "personal_file": "--personal",
    "network": "--model",
    "data": "--data",
    "client": "--client",
}


def _check_subject(
    runs: tuple[str, ...], foreign: dict[str, str | None], out: str | None, of_runs: list[str]
) -> dict[str, str]:
    """Make sure that either runs or two models are named; gives what is named of the models.

    Args:
        runs: folders of runs.
        foreign: what names the models.
        out: where what is found of them goes.
        of_runs: flags that were given and are for runs alone.

    Raises:
        InputError: nothing is named, both are, or something is missing.
    """
    given = {name: value for name, value in foreign.items() if value is not None}
    if runs:
        extra = [_FLAGS[name] for name in given] + (["--out"] if out else [])
        if extra:
            raise InputError(
                f"{extra[0]}: is for two models that are of no run; give run folders or models, not both"
            )
        return {}
    missing = [flag for name, flag in _FLAGS.items() if name not in given]
    if len(missing) == len(_FLAGS):
        raise InputError(
            f"nothing to audit; give folders of finished runs, or two models: {', '.join(_FLAGS.values())}"
        )
    if missing:
        raise InputError(f"{missing[0]}: missing; two models need {', '.join(_FLAGS.values())}")
    if of_runs:
        raise InputError(f"{of_runs[0]}: is for runs; leave it out, or give the folder of one")
    return given
