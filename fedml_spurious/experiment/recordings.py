"""What a run records of its personal models for figures: colour twins and input gradients.

Recordings are tasks of their own, after the results are there: they fine-tune once more, to the same model,
and look at it on the way. So they change no result, and a finished run can still be asked for them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from fedml_spurious.analysis.gradient_terms import TERMS, gradient_terms
from fedml_spurious.analysis.twins import ColorTwins, is_palette
from fedml_spurious.common.errors import DivergedError, InputError
from fedml_spurious.common.progress import Stage, stage
from fedml_spurious.common.storage import read_json, tidy_csv, write_json
from fedml_spurious.common.travelling import travels
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.budget import find_budgets
from fedml_spurious.experiment.client import ClientStep
from fedml_spurious.experiment.context import RunContext
from fedml_spurious.experiment.inputs import SplitsBySeed
from fedml_spurious.experiment.result_key import ResultKey
from fedml_spurious.experiment.result_store import ResultStore
from fedml_spurious.experiment.tasks import TaskRunner
from fedml_spurious.learning.client_data import to_tensors
from fedml_spurious.learning.state_dicts import State, load_state
from fedml_spurious.personalization.base import Personalizer

GAMMA, TWINS = "gamma", "twins"
KEY_COLUMNS = ("dataset", "method", "fl_seed", "p_seed", "client", "epoch", "selected")
Rows = list[dict[str, Any]]


def recorded_kinds(settings: Settings) -> tuple[str, ...]:
    """Which recordings of personal models a run makes."""
    return tuple(name for name in (GAMMA, TWINS) if name in settings.analysis_args.record)


def check_recordings(settings: Settings, data: SplitsBySeed) -> None:
    """Make sure that the data have what the recordings need.

    Raises:
        InputError: twins are asked for and the spurious feature is no colour.
    """
    names = next(iter(data.values())).meta.spurious_names
    if TWINS in settings.analysis_args.record and not is_palette(names):
        raise InputError(
            f"analysis_args.record: twins are of coloured images, and the spurious feature of "
            f"{settings.data_args.dataset} is {', '.join(names)}; leave twins out"
        )


class _EpochEnds:
    """An observer of the fine-tuning that is told no end of an epoch: it keeps what came before the next."""

    def __init__(self, model: nn.Module, seen: Callable[[nn.Module, int], None]) -> None:
        self._model, self._seen = model, seen
        self._last: tuple[int, State] | None = None
        self.epochs: set[int] = set()

    def __call__(self, model: nn.Module, epoch: int, batch: int) -> None:
        if self._last is not None and epoch != self._last[0]:
            self.show(*self._last)
        if epoch:
            # On the model's device, and not copied when the next batch has changed the model.
            self._last = epoch, {name: value.detach().clone() for name, value in model.state_dict().items()}

    def show(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Show a model after an epoch, each epoch once."""
        if epoch not in self.epochs:
            self.epochs.add(epoch)
            load_state(self._model, state)
            self._seen(self._model, epoch)

    def finish(self) -> None:
        """Show the model after the last batch."""
        if self._last is not None:
            self.show(*self._last)


@travels
@dataclass(frozen=True)
class RecordClient:
    """Personalize a client once more and record what the figures need.

    Attributes:
        key: whose model.
        eps: budget of the attack, and of the first-order attack of ``gamma``.
        kinds: what to record, of ``gamma`` and ``twins``.
    """

    key: ResultKey
    eps: float
    kinds: tuple[str, ...]

    @property
    def client(self) -> str:
        """Id of the client."""
        return self.key.client

    def describe(self) -> str:
        """See :class:`~fedml_spurious.experiment.tasks.Task`."""
        return f"recording of {', '.join(self.kinds)}, client {self.client}, method {self.key.method}"

    def run(self, runner: TaskRunner) -> dict[str, Rows]:
        """Rows by kind, without what the key says; none where the method does not apply or diverges."""
        step = runner.client_step(self.client, self.key.fl_seed, self.eps)
        look, nothing = _Look(runner, step, self), dict[str, Rows]({kind: [] for kind in self.kinds})
        if self.key.options is None or self.key.p_seed is None:
            row = {"epoch": 0, "selected": 1}
            return nothing | ({TWINS: [row | look.twins.measure(step.model)]} if TWINS in self.kinds else {})
        method = runner.settings.method_type(self.key.method)(self.key.options)
        with runner.data.sealed():
            if method.not_applicable(step.view(self.key.p_seed)):
                return nothing
        try:
            return self._watch(step, look, method, self.key.p_seed)
        except DivergedError:
            return nothing

    def _watch(
        self, step: ClientStep, look: _Look, method: Personalizer[Any], p_seed: int
    ) -> dict[str, Rows]:
        found: dict[str, Rows] = {kind: [] for kind in self.kinds}

        def see(model: nn.Module, epoch: int) -> None:
            if TWINS in self.kinds:
                found[TWINS].append({"epoch": epoch, **look.twins.measure(model)})
            if GAMMA in self.kinds and epoch == 1:
                found[GAMMA] += look.gamma(model, epoch)

        ends = _EpochEnds(copy.deepcopy(step.model), see)
        personal = step.personalize(method, p_seed, ends)
        ends.finish()
        ends.show(personal.selected_epoch, personal.state)  # of a method that tells its observer nothing
        if GAMMA in self.kinds and personal.selected_epoch != 1:
            selected = copy.deepcopy(step.model)
            load_state(selected, personal.state)
            found[GAMMA] += look.gamma(selected, personal.selected_epoch)
        for rows in found.values():
            for row in rows:
                row["selected"] = int(row["epoch"] == personal.selected_epoch)
        return found


class _Look:
    """What is measured on one client's biased test images."""

    def __init__(self, runner: TaskRunner, step: ClientStep, task: RecordClient) -> None:
        self._step, self._task, self._meta = step, task, runner.files.meta
        self._device, self._limit = runner.device, runner.settings.analysis_args.samples
        self._samples = runner.data.load(task.client, "test")

    @cached_property
    def twins(self) -> ColorTwins:
        """The twins of all images."""
        colors = self._meta.clients[self._task.client].color_map or {}
        return ColorTwins(self._samples, self._meta.spurious_names, colors, self._device)

    def gamma(self, model: nn.Module, epoch: int) -> Rows:
        """Terms of the first images."""
        x, y = to_tensors(self._samples.image, self._samples.label, self._device)
        colored = is_palette(self._meta.spurious_names)
        limit = self._limit or len(y)
        terms = gradient_terms(
            self._step.model, model, x[:limit], y[:limit], eps=self._task.eps, colored=colored
        )
        return [{"epoch": epoch, "sample": place, **row} for place, row in enumerate(terms)]


def record(
    run: RunContext,
    store: ResultStore,
    models: Mapping[int, nn.Module],
    clients: Mapping[int, Sequence[str]],
    plan: Sequence[ResultKey],
) -> None:
    """Record whatever is asked for and not there, and put it together as ``gamma.csv`` and ``twins.csv``.

    Args:
        run: the run.
        store: where the results of personal models are, and their recordings beside them.
        models: global models by federated seed.
        clients: ids of the clients by federated seed.
        plan: final work of the run, with the options that hold in it.
    """
    kinds = recorded_kinds(run.settings)
    if not kinds:
        return
    budgets = find_budgets(run, models, clients)  # those of the results: another machine may find others
    with stage(run.console, f"Recording {', '.join(kinds)}", total=len(plan)) as bar:
        for fl_seed, model in models.items():
            own = [key for key in plan if key.fl_seed == fl_seed]
            left = {key: _lacking(store, key, kinds) for key in own}
            bar.skip(sum(1 for missing in left.values() if not missing))
            if any(left.values()):
                run.workers.use(model, fl_seed, f"fl{fl_seed}")
                eps = budgets[fl_seed]
                tasks = [RecordClient(key, eps, missing) for key, missing in left.items() if missing]
                _do(run, store, tasks, bar)
    for kind in kinds:
        _join(run, store, kind, plan)


def _do(run: RunContext, store: ResultStore, tasks: Sequence[RecordClient], bar: Stage) -> None:
    by_client = sorted(tasks, key=lambda task: task.client)  # a client's data are made ready once
    for task, answer in run.workers.do(by_client):
        for kind, rows in answer.items():
            write_json(_part(store, task.key, kind), {"rows": rows})
        bar.advance(f"fl{task.key.fl_seed} client {task.client} {task.key.method}")


def _part(store: ResultStore, key: ResultKey, kind: str) -> Path:
    return store.path(key) / kind / f"{key.client}.json"


def _lacking(store: ResultStore, key: ResultKey, kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kind for kind in kinds if not _part(store, key, kind).exists())


def _join(run: RunContext, store: ResultStore, kind: str, plan: Sequence[ResultKey]) -> None:
    names = run.data[run.settings.fl_seeds[0]].meta.spurious_names
    columns = {GAMMA: ("sample", *TERMS), TWINS: twin_columns(names)}[kind]
    rows = []
    for key in plan:
        about = {"dataset": run.settings.data_args.dataset, "method": key.method, "fl_seed": key.fl_seed}
        about |= {"p_seed": key.p_seed, "client": key.client}
        rows += [about | row for row in read_json(_part(store, key, kind), "rows")["rows"]]
    tidy_csv(run.folder.path / f"{kind}.csv", (*KEY_COLUMNS, *columns), rows)


def twin_columns(colors: Sequence[str]) -> tuple[str, ...]:
    """Columns of ``twins.csv`` beside those of the key."""
    return (
        "images", "flip_map", "flip_palette", "agree_shape", "agree_color", "acc_own",
        *(f"acc_{name}" for name in colors),
    )  # fmt: skip
