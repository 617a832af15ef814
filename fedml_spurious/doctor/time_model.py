"""How long a run takes, from its numbers of clients, samples, rounds and trials, and from timed steps.

Sums of numbers that are known times seconds that were measured. Not known before the run are: how many
budgets of the attack are tried, which epochs are selected, and how many samples JTT finds misclassified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from data_partition.split_files.diagnostics import client_shortcuts
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.data import SplitFiles
from fedml_spurious.doctor.spans import Span, total
from fedml_spurious.doctor.speeds import Machine, MethodSpeed, Speeds
from fedml_spurious.experiment.divergence_step import is_recorded
from fedml_spurious.experiment.recordings import recorded_kinds
from fedml_spurious.personalization import GLOBAL
from fedml_spurious.personalization.options import JTTSettings, LocalSettings

_BUDGETS = Span(1, 1.5, 8)  # of 386 budgets in runs at hand 346 were the first that was tried, 12 the eighth
_MEASURED = Span(1, 1.5, 2)  # models per result: the last epoch's too, where another was selected
_ERRORS = 0.1  # most of the samples that JTT finds misclassified besides the bias-conflicting ones
_SHARED_MACHINE = Span(1, 1.1, 1.4)  # processes beside each other share caches and the memory's bandwidth


def full_batches(samples: int, batch_size: int, fixed: float) -> float:
    """How many full batches take as long as an epoch.

    Args:
        samples: in the epoch.
        batch_size: of a full batch.
        fixed: share of a full batch's time that a batch takes however small it is.
    """
    full, rest = divmod(samples, batch_size)
    if rest == 1 and full:  # joined to its neighbour
        return full + (1 - fixed) / batch_size
    return full + (fixed + (1 - fixed) * rest / batch_size if rest else 0.0)


class TimeModel:
    """How long the stages of a run take.

    Args:
        settings: settings of the run.
        data: description of the clients, taken to be that of every federated seed.
        clients: ids of those that are personalized.
        speeds: what was timed.
        machine: what is used of it.
        files: what making the split files takes.
    """

    def __init__(
        self,
        settings: Settings,
        data: SplitFolder,
        clients: Sequence[str],
        speeds: Speeds,
        machine: Machine,
        files: SplitFiles,
    ) -> None:
        self.settings, self.data, self.clients = settings, data, clients
        self.speeds, self.machine, self.files = speeds, machine, files
        self.seeds = len(settings.fl_seeds)
        self.pairs = self.seeds * len(settings.experiment_args.personalization_seeds)

    def stages(self) -> dict[str, Span]:
        """Seconds by stage, in the order in which they are done."""
        return {
            "start": Span.of(self.machine.start * self._crowd(self.machine.size)),
            "split files": Span.of(self.files.seconds),
            "rounds": self._rounds(),
            "tuning": self._tuning(),
            "personalization": self._personalization(),
            "table and report": Span.of(self.machine.end),
        }

    def _crowd(self, processes: int) -> float:
        """How many processes share the cores of one."""
        return max(1.0, processes / self.machine.side_by_side)

    def _spread(self, seconds: Span, tasks: int) -> Span:
        """Work of many tasks on the workers."""
        busy = min(self.machine.workers, tasks, self.machine.side_by_side)
        return seconds * (1 / max(busy, 1)) * (_SHARED_MACHINE if busy > 1 else 1.0)

    def _rounds(self) -> Span:
        train, speeds = self.settings.train_args, self.speeds
        ids = self.data.client_ids
        update = speeds.client + sum(
            train.epochs * self._epoch(self.data.count(one, "train"), train.batch_size) for one in ids
        ) * speeds.batch / len(ids)
        busy = min(self.machine.workers, train.client_num_per_round)
        # The largest share of a round is waited for.
        slots = math.ceil(train.client_num_per_round / busy) * self._crowd(busy)
        one_round = Span.of(update * slots) * (_SHARED_MACHINE if busy > 1 else 1.0)
        one_round += Span.of(speeds.average + speeds.row + speeds.message * self.machine.workers)
        count = train.comm_round
        every = self.settings.validation_args.frequency_of_the_test
        measured = len({*range(0, count, every), count - 1})
        images = sum(self._tests(client) for client in ids)
        looked = self._spread(Span.of(images * speeds.evaluation), len(ids))
        rounds = one_round * count + looked * measured + self._divergence(update)
        return (rounds + self._saves(rounds) + self._recalibration()) * self.seeds

    def _epoch(self, samples: int, batch_size: int) -> float:
        return full_batches(samples, batch_size, self.speeds.fixed)

    def _tests(self, client: str) -> int:
        return self.data.count(client, "test") + self.data.count(client, "test_bc")

    def _saves(self, rounds: Span) -> Span:
        between = self.settings.validation_args.checkpoint_seconds
        most = self.settings.train_args.comm_round
        times = most if not between else min(most, 1 + rounds.middle / between)
        return Span.of((times + 1) * self.speeds.save)

    def _recalibration(self) -> Span:
        if self.settings.personalization_args.batchnorm != "recalibrate":
            return Span.of(0)
        images = sum(self.data.count(client, "train") for client in self.data.client_ids)
        return self._spread(
            Span.of(images * self.speeds.evaluation * self.speeds.norms), len(self.data.client_ids)
        )

    def _divergence(self, update: float) -> Span:
        """An update and two gradients more of every client of a recorded round."""
        settings = self.settings
        rounds = sum(is_recorded(settings, index) for index in range(settings.train_args.comm_round))
        return Span.of(2 * update * rounds * settings.train_args.client_num_per_round)

    def _tuning(self) -> Span:
        grids, experiment = self.settings.grids(), self.settings.experiment_args
        if not grids:
            return Span.of(0)
        spent = Span.of(0)
        for name, grid in grids.items():
            sizes = [len(values) for values in grid.values()]
            trials = (
                math.prod(sizes) * self.pairs if experiment.trials == "all" else sum(sizes) - len(sizes) + 1
            )
            spent += total([self._result(name, client) for client in self.clients]) * trials
        # The clients are made ready once more for every further coefficient.
        passes = max(map(len, grids.values()))
        return self._spread(spent + self._ready() * passes, len(self.clients))

    def _personalization(self) -> Span:
        grids = self.settings.grids()
        everything = self.settings.experiment_args.trials == "all"
        spent = Span.of(0)
        for name in self.settings.methods():
            if name == GLOBAL:
                spent += total([self._global_row(client) for client in self.clients]) * self.seeds
                continue
            # What tuning chooses was trained when it was tried.
            left = self.pairs - (1 if name in grids else 0)
            times = 0 if name in grids and everything else left
            again = self.pairs if recorded_kinds(self.settings) else 0
            spent += total([self._result(name, client) for client in self.clients]) * (times + again)
        spent += self._ready() * max(self.seeds - bool(grids), 0) + self._budget() * self.seeds
        return self._spread(spent, len(self.clients))

    def _result(self, name: str, client: str) -> Span:
        """One method on one client."""
        speed = self.speeds.methods.get(name)
        if speed is None:  # it does not apply
            return Span.of(self.speeds.row)
        batches = self._method_batches(name, client)
        epochs = self._epochs(name)
        spent = batches * speed.batch + Span.of(speed.start + epochs * speed.epoch + self.speeds.row)
        return spent + _MEASURED * self._measurement(client) + self._trajectory(batches, client)

    def _epochs(self, name: str) -> int:
        options = self.settings.options(name)
        own = options.epochs if isinstance(options, LocalSettings) else None
        return own or self.settings.fine_tuning().epochs

    def _method_batches(self, name: str, client: str) -> Span:
        samples, size = self.data.count(client, "train"), self.settings.fine_tuning().batch_size
        epoch, epochs = self._epoch(samples, size), self._epochs(name)
        options = self.settings.options(name)
        if not isinstance(options, JTTSettings):
            return Span.of(epochs * epoch)
        share = 1 - client_shortcuts(self.data.meta)[client].aligned
        if not share:
            return Span.of(0)
        more = (options.multiplicity - 1) * epochs * epoch
        first = Span.of((options.identification_epochs + epochs) * epoch)
        return first + Span(0, share, share + _ERRORS) * more

    def _measurement(self, client: str) -> float:
        return (self._tests(client) + self.data.count(client, "test")) * self.speeds.evaluation

    def _trajectory(self, batches: Span, client: str) -> Span:
        interval = self.settings.trajectory_interval
        return batches * (self._measurement(client) / interval) if interval else Span.of(0)

    def _global_row(self, client: str) -> Span:
        seen = self.data.count(client, "val") * self.speeds.evaluation
        return Span.of(self._measurement(client) + seen + self.speeds.row)

    def _ready(self) -> Span:
        """The adversarial examples of all clients, once."""
        methods: Sequence[MethodSpeed] = list(self.speeds.methods.values())
        splits = ["test"]
        splits += ["train"] if any(method.attacks_train for method in methods) else []
        splits += ["val"] if any(method.attacks_val for method in methods) else []
        images = sum(self.data.count(client, split) for client in self.clients for split in splits)
        return Span.of(images * self.settings.attack_args.steps * self.speeds.attack)

    def _budget(self) -> Span:
        attack = self.settings.attack_args
        limit = attack.budget_samples
        counts = [self.data.count(client, "train") for client in self.clients]
        images = sum(min(count, limit) if limit else count for count in counts)
        once = images * (attack.steps * self.speeds.attack + 2 * self.speeds.evaluation)
        return (Span.of(1) if attack.budget == "fixed" else _BUDGETS) * once
