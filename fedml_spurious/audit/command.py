"""The command ``fedml-spurious audit``: of finished runs, or of two models that are not ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedml_spurious.audit.client import AuditOptions
from fedml_spurious.audit.files import write_audit
from fedml_spurious.audit.foreign import ForeignModels, audit_foreign
from fedml_spurious.audit.of_run import audit_run
from fedml_spurious.common.scratch import hold_folder
from fedml_spurious.common.storage import require_writable_folder
from fedml_spurious.report.page import NAME, write_report
from fedml_spurious.results.audits import audit_document
from fedml_spurious.results.finished_run import load_run
from fedml_spurious.results.text_tables import output_console, print_document


def audit_runs(folders: Sequence[str], options: AuditOptions, console: Console) -> None:
    """Audit finished runs, and write what is found into their folders and reports.

    Raises:
        InputError: a folder is no finished run, kept no models, or its split files are gone.
    """
    different = list({Path(folder).resolve(): Path(folder) for folder in folders}.values())
    runs = [load_run(path) for path in different]  # all of them before the first is written
    for place, run in enumerate(runs):
        with hold_folder(run.path):
            audited = audit_run(run.path, options, console)
            write_audit(run.path, audited, truth=options.truth)
            output = output_console()
            if place:
                output.print()
            print_document(output, audit_document(f"Audit of {run.path}", audited.summary))
            wanted = run.config.get("experiment_args", {}).get("report", True)
            if wanted or (run.path / NAME).exists():
                write_report([run.path])
        console.print(f"audit.csv and audit.json are in {run.path}", highlight=False, soft_wrap=True)


def audit_models(models: ForeignModels, options: AuditOptions, out: Path, console: Console) -> None:
    """Audit two models that are not ours, and write what is found into a folder.

    Raises:
        InputError: a file is absent or does not fit, or there is no such client.
    """
    audited = audit_foreign(models, options)
    require_writable_folder(out)
    write_audit(out, audited, truth=False)
    title = f"Audit of {models.personal_file} on client {models.client}"
    print_document(output_console(), audit_document(title, audited.summary))
    console.print(f"audit.csv and audit.json are in {out}", highlight=False, soft_wrap=True)
