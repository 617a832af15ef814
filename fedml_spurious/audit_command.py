"""``fedml-spurious audit``; torch is imported when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from fedml_spurious.common.cli_errors import Command, friendly
from fedml_spurious.common.errors import InputError


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
    out: str | None,
    **foreign: str | None,
) -> None:
    """Say which personal models rely more on an attribute than the global model, without conflicting data.

    Of finished runs that kept their models (personalization_args.save_models), or of two models of yours:
    --global, --personal, --model, --data and --client. The answer may be "cannot say".
    """
    given = _check_subject(runs, foreign, out)
    _require_one_process()
    # Last, so that nothing there hides an installed module.
    sys.path.append(os.getcwd())
    # Torch takes seconds to import, which --help and wrong options must not wait for.
    from rich.console import Console

    # The same.
    from fedml_spurious.audit.client import make_options
    from fedml_spurious.audit.command import audit_models, audit_runs
    from fedml_spurious.audit.foreign import ForeignModels

    options, console = (
        make_options(probe, peers=peers, tolerance=tolerance, truth=truth),
        Console(stderr=True),
    )
    if runs:
        audit_runs(runs, options, console)
        return
    models = ForeignModels(
        Path(given["global_file"]),
        Path(given["personal_file"]),
        given["network"],
        Path(given["data"]),
        given["client"],
    )
    audit_models(models, options, Path(out or "audit"), console)


def _require_one_process() -> None:
    from fedml_spurious.fedml_adapter.processes.ranks import mpi_rank, rank_zero_speaks  # late: --help

    with rank_zero_speaks():
        rank = mpi_rank()
        if rank is not None and rank.size > 1:
            raise InputError(
                f"audit is one process, and mpirun started {rank.size}; start it without mpirun, and it "
                "reads the folder of a run of any number of processes"
            )


_FLAGS = {
    "global_file": "--global",
    "personal_file": "--personal",
    "network": "--model",
    "data": "--data",
    "client": "--client",
}


def _check_subject(runs: tuple[str, ...], foreign: dict[str, str | None], out: str | None) -> dict[str, str]:
    """Make sure that either runs or two models are named; gives what is named of the models.

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
    return given
