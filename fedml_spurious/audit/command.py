"""The command ``fedml-spurious audit``: of finished runs, or of two models that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import torch
from rich.console import Console

from fedml_spurious.audit.client import AuditOptions
from fedml_spurious.audit.files import write_audit
from fedml_spurious.audit.foreign import ForeignModels, audit_foreign
from fedml_spurious.audit.of_run import audit_run
from fedml_spurious.audit.opening import on_this_machine, open_run, run_settings, without_gpu
from fedml_spurious.audit.subject import Subject, require_auditable
from fedml_spurious.audit.summary import Audited
from fedml_spurious.common.logs import log_file
from fedml_spurious.common.scratch import hold_folder, scratch_folder
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.run import StartWorkers
from fedml_spurious.experiment.tasks import Workers
from fedml_spurious.results.audits import audit_document
from fedml_spurious.results.text_tables import output_console, print_document

# Brings up this process as the only worker; given settings, device, and the options that its tasks take.
Hire = Callable[
    [Settings, torch.device, AuditOptions], AbstractContextManager[Callable[[SplitsBySeed], Workers]]
]


def audit_runs(
    folders: Sequence[str],
    options: AuditOptions,
    console: Console,
    *,
    hire: Hire,
    config: str | None = None,
    overrides: Sequence[str] = (),
) -> None:
    """Audit finished runs in this process, and write what is found into their folders and reports.

    Args:
        folders: the run folders.
        options: what is asked.
        console: where progress goes.
        hire: brings up this process as the worker.
        config: see :func:`run_settings`.
        overrides: the same.

    Raises:
        InputError: a folder is no finished run, kept no models, or its split files are gone; whatever
            refuses one of the runs is found before the first of them is written.
    """
    different = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    found = [(path, on_this_machine(run_settings(path, config, overrides))) for path in different]
    subjects = [open_run(path, settings) for path, settings in found]
    with ExitStack() as held:
        for subject in subjects:
            require_auditable(subject, options)
            choose_device(subject.stored.settings)  # only to refuse a GPU that is not here
            held.enter_context(hold_folder(subject.finished.path, option=None))
        for place, subject in enumerate(subjects):
            if place:
                output_console().print()
            settings = subject.stored.settings
            with hire(settings, choose_device(settings), options) as workers_for:
                _audit(subject, workers_for, options, console)


def lead_audit(
    path: Path,
    settings: Settings,
    options: AuditOptions,
    console: Console,
    *,
    start_workers: StartWorkers,
    device: torch.device,
) -> None:
    """Audit a finished run with other processes as workers, or with its silos.

    Args:
        path: the run folder.
        settings: of the run.
        options: what is asked; all processes were asked the same.
        console: where progress goes.
        start_workers: brings up the workers.
        device: where this process keeps the global models.

    Raises:
        InputError: it is no finished run, its models are not where they should be, or a worker does not fit.
    """
    here = settings if device.type == "cuda" else without_gpu(settings)
    with_silos = settings.common_args.training_type == "cross_silo"
    subject = open_run(path, here, with_silos=with_silos)
    with (
        hold_folder(path, option=None),
        log_file(subject.stored.folder.log) as begin_log,
        scratch_folder(path),
        start_workers() as workers_for,
    ):
        begin_log()
        require_auditable(subject, options)  # not before: the others are told by whoever has reached them
        _audit(subject, workers_for, options, console)


def _audit(
    subject: Subject,
    workers_for: Callable[[SplitsBySeed], Workers],
    options: AuditOptions,
    console: Console,
) -> None:
    """Audit a run, write what is found, and show it."""
    stored, path = subject.stored, subject.finished.path
    workers = workers_for({seed: stored.splits_of(seed) for seed in stored.settings.fl_seeds})
    audited = audit_run(subject, workers, options, console)
    write_audit(path, audited, truth=options.truth)
    _show(f"Audit of {path}", audited)
    # Late: Matplotlib takes a second to import, in workers too, which write no report.
    from fedml_spurious.report.page import NAME, write_report

    wanted = subject.finished.config.get("experiment_args", {}).get("report", True)
    if wanted or (path / NAME).exists():
        write_report([path])
    console.print(f"audit.csv and audit.json are in {path}", highlight=False, soft_wrap=True)


def _show(title: str, audited: Audited) -> None:
    document = audit_document(title, audited.summary, pictured=bool(audited.examples))
    print_document(output_console(), document)


def audit_models(models: ForeignModels, options: AuditOptions, out: Path, console: Console) -> None:
    """Audit two models that are not ours, and write what is found into a folder.

    Raises:
        InputError: a file is absent or does not fit, there is no such client, or the folder is not writable.
    """
    with hold_folder(out, option="--out"):
        audited = audit_foreign(models, options)
        write_audit(out, audited, truth=False)
    _show(f"Audit of {models.personal_file} on client {models.client}", audited)
    console.print(f"audit.csv and audit.json are in {out}", highlight=False, soft_wrap=True)
