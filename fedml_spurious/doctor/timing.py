"""Timed steps: what the parts of a run take here, with the real network and methods, on made-up images.

Everything that is done here a run does too, with batches as large, so that this process needs as much memory
as the run will; of very large batches and clients a part, and the rest is in proportion. Learning rates are
tiny: how long a step takes does not depend on them, and nothing diverges.
"""

from __future__ import annotations

import copy
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from data_partition.split_files.diagnostics import client_shortcuts
from data_partition.split_files.folder import SplitFolder
from fedml_spurious.common.blame import users_code
from fedml_spurious.common.errors import DivergedError
from fedml_spurious.config.settings import Settings
from fedml_spurious.doctor.made_up import shortened
from fedml_spurious.doctor.memory import bytes_of_an_image, memory_suffices
from fedml_spurious.doctor.speeds import MethodSpeed, Speeds, middle
from fedml_spurious.doctor.storing import time_rows
from fedml_spurious.experiment.inputs import initial_network
from fedml_spurious.fedml_adapter.processes.wire import sum_to_plain, to_plain
from fedml_spurious.learning.attacks import ATTACK_BATCH
from fedml_spurious.learning.batchnorm import layers_in_forward_order
from fedml_spurious.learning.checkpoints import save_tensors
from fedml_spurious.learning.client_data import Labelled
from fedml_spurious.learning.local_update import update_locally
from fedml_spurious.learning.metrics import EVALUATION_BATCH, evaluate
from fedml_spurious.learning.network_trial import made_up_images
from fedml_spurious.learning.options import LocalTraining
from fedml_spurious.learning.state_dicts import clone_state, copy_state, load_state
from fedml_spurious.learning.weighted_sum import WeightedSum
from fedml_spurious.personalization.base import AdversarialReference, ClientView
from fedml_spurious.personalization.options import BUILT_IN, MethodSettings

_RATE = 1e-6
_LONG = 0.1  # seconds; what takes longer is timed once
_MOST_ON_CPU, _MOST_ON_GPU = 256, 2048  # images of a batch or of a validation set; more are not made up


def time_steps(
    settings: Settings,
    data: SplitFolder,
    clients: Sequence[str],
    device: torch.device,
    scratch: Path,
    *,
    clock: Callable[[], float] = time.perf_counter,
    batches: int = 4,
    own_methods: bool = True,
) -> Speeds:
    """Do some steps of every part of a run and see how long they take.

    Args:
        settings: settings of the run, which fit the data.
        data: description of the clients.
        clients: ids of those that are personalized.
        device: where the run computes.
        scratch: an empty folder.
        clock: tells the time in seconds.
        batches: how many of each kind, at least 3; the first is not counted.
        own_methods: time methods of the user's own too, which may do more than train; they are else taken
            to be as slow as the slowest of the others.

    Raises:
        RunError: a network or a method of the user's own fails, or there is not enough memory.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), memory_suffices():
        trial = _Trial(settings, data, clients, device, scratch, clock, batches)
        return trial.speeds(own_methods=own_methods)


class _Trial:
    def __init__(
        self,
        settings: Settings,
        data: SplitFolder,
        clients: Sequence[str],
        device: torch.device,
        scratch: Path,
        clock: Callable[[], float],
        batches: int,
    ) -> None:
        self.settings, self.data, self.clients, self.device = settings, data, clients, device
        self.scratch, self._clock, self.batches = scratch, clock, batches
        self.fl_seed, self.on_gpu = settings.fl_seeds[0], device.type == "cuda"
        self.most = _MOST_ON_GPU if self.on_gpu else _MOST_ON_CPU
        self.fixed = 1.0
        self.model = initial_network(settings, data, self.fl_seed).to(device)

    def now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        return self._clock()

    def seconds(self, do: Callable[[], object]) -> float:
        """What a call takes: the second one, unless the first took long."""
        began = self.now()
        do()
        first = self.now() - began
        if first > _LONG:
            return first
        began = self.now()
        do()
        return min(first, self.now() - began)

    def speeds(self, *, own_methods: bool) -> Speeds:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        with users_code("timed steps of the network"):
            batch, fixed = self._federated()
            unseen = self._unseen_bytes()
            client, average, message = self._averaging()
            evaluation, attack = self._looking()
        save = self.seconds(lambda: save_tensors(self.scratch / "model.pt", copy_state(self.model)))
        row, row_bytes = time_rows(self.data.name, self.scratch / "rows", self.now)
        return Speeds(
            batch=batch,
            fixed=fixed,
            client=client,
            average=average,
            evaluation=evaluation,
            attack=attack,
            save=save,
            row=row,
            message=message,
            methods=self._methods(batch, own_methods=own_methods),
            weights=sum(value.nbytes for value in self.model.state_dict().values()),
            norms=len(layers_in_forward_order(self.model, self.data.image_shape)),
            row_bytes=row_bytes,
            unseen_bytes=0 if self.on_gpu else unseen,
            gpu_bytes=torch.cuda.max_memory_reserved(self.device) + unseen if self.on_gpu else 0,
        )

    def samples(self, count: int) -> Labelled:
        x = made_up_images(count, self.data.image_shape, self.device)
        return Labelled(x, torch.arange(count, device=self.device) % self.data.num_classes)

    def largest(self, split: str, clients: Sequence[str] | None = None) -> int:
        return max(self.data.count(one, split) for one in clients or self.data.client_ids)

    def seen(self, batch_size: int, clients: Sequence[str] | None = None) -> int:
        """Images of the batch that is timed for one of this size."""
        return min(batch_size, self.largest("train", clients), self.most)

    def longer(self, seen: int, batch_size: int) -> float:
        """How many times as long as the batch that was timed one of this size takes."""
        return self.fixed + (1 - self.fixed) * batch_size / seen

    def _federated(self) -> tuple[float, float]:
        training = replace(self.settings.train_args.local_training(), epochs=1, learning_rate=_RATE)
        full = self.seen(training.batch_size)
        batch, small = self._batch(training, full), max(2, full // 4)
        if small < full and batch:
            # A straight line through both: what is left of it at no images.
            short = min(self._batch(training, small), batch)
            self.fixed = max(0.0, (short * full - batch * small) / (full - small)) / batch
        times = self.longer(full, training.batch_size)
        return batch * times, self.fixed / times

    def _unseen_bytes(self) -> int:
        """What the largest batch of the run keeps beyond what the timed one does."""
        federated, personal = self.settings.train_args.batch_size, self.settings.fine_tuning().batch_size
        largest = max(
            min(federated, self.largest("train")), min(personal, self.largest("train", self.clients))
        )
        if largest <= self.most:
            return 0
        return round((largest - self.most) * bytes_of_an_image(self.model, self.samples(self.most // 8)))

    def _batch(self, training: LocalTraining, size: int) -> float:
        samples, training = self.samples(size * self.batches), replace(training, batch_size=size)
        times = [self.now()]
        for _ in update_locally(self.model, samples.x, samples.y, training, seed=0, round_index=0, client=0):
            times.append(self.now())  # the step is what takes time
        return middle(times)

    def _averaging(self) -> tuple[float, float, float]:
        state, alone = clone_state(self.model), self.settings.comm_args.backend == "sp"
        # In one process FedML's aggregator gets all clients of a round at once; workers add them up.
        count = self.settings.train_args.client_num_per_round if alone else 1
        kept = [clone_state(self.model) for _ in range(count)]
        total = WeightedSum()
        total.add(1, state)

        def client() -> None:
            load_state(self.model, state)
            total.add(1, kept[-1])
            clone_state(self.model)

        def average() -> None:
            load_state(self.model, total.mean())

        seconds = self.seconds(client), self.seconds(average)
        if alone:
            return (*seconds, 0.0)
        plain = {"sum": sum_to_plain(total), "state": to_plain(copy_state(self.model))}
        return (*seconds, self.seconds(lambda: pickle.loads(pickle.dumps(plain))))

    def _looking(self) -> tuple[float, float]:
        largest = max(self.largest(split) for split in ("test", "test_bc", "val"))
        looked_at = min(EVALUATION_BATCH, max(1, largest))
        seen = self.samples(looked_at)
        evaluation = self.seconds(lambda: evaluate(self.model, seen.x, seen.y)) / looked_at
        attacked = self.samples(min(ATTACK_BATCH, max(self.largest("train", self.clients), 1)))
        step = replace(self.settings.attack_args.attack(self.settings.attack_args.eps), steps=1)
        attack = self.seconds(lambda: step(self.model, attacked.x, attacked.y)) / len(attacked)
        return evaluation, attack

    def _methods(self, batch: float, *, own_methods: bool) -> dict[str, MethodSpeed]:
        found, untimed = {}, []
        for name in self.settings.methods():
            options = self.settings.options(name)
            if options is None:
                continue
            if name not in BUILT_IN and not own_methods:
                untimed.append(name)
            elif speed := self._method(name, options):
                found[name] = speed
        plain = MethodSpeed(0.0, batch, 0.0, attacks_train=False, attacks_val=False)
        slowest = max(found.values(), key=lambda speed: speed.batch, default=plain)
        return found | dict.fromkeys(untimed, slowest)

    def _method(self, name: str, options: MethodSettings) -> MethodSpeed | None:
        method = self.settings.method_type(name)(shortened(options))
        view = self._view()
        times: list[float] = []
        with users_code(f"timed steps of the method {name}"):
            if method.not_applicable(view):
                return None
            began = self.now()
            try:
                method.personalize(view, lambda *_: times.append(self.now()))
            except DivergedError:
                return None  # the run says so, of every client
        ended = self.now()
        made = vars(view.adversarial)
        attacks = "train_x" in made, "val" in made
        size = view.training.batch_size
        count, longer = -(-len(view.train) // size), self.longer(size, self.settings.fine_tuning().batch_size)
        if len(times) < 2:  # a method of the user's own that tells nothing
            return MethodSpeed(0.0, longer * (ended - began) / count, 0.0, *attacks)
        more = self.largest("val", self.clients) / max(1, len(view.val))
        return MethodSpeed(times[0] - began, longer * middle(times), more * (ended - times[-1]), *attacks)

    def _view(self) -> ClientView:
        """A made-up client with samples as the largest has, but few of them."""
        training = self.settings.fine_tuning()
        size = self.seen(training.batch_size, self.clients)
        train = self.samples(size * self.batches)
        val = self.samples(min(self.most, self.largest("val", self.clients)))
        attack = replace(self.settings.attack_args.attack(self.settings.attack_args.eps), steps=1)
        return ClientView(
            client=0,
            fl_seed=self.fl_seed,
            p_seed=0,
            train=train,
            aligned=self._aligned(len(train)),
            val=val,
            adversarial=AdversarialReference(self.model, train, val, attack),
            global_model=self.model,
            training=replace(training, epochs=1, batch_size=size, learning_rate=_RATE),
            initial=lambda: copy.deepcopy(self.model),
            selection_ties=self.settings.personalization_args.selection_ties,
        )

    def _aligned(self, count: int) -> Tensor:
        """All, where no client to personalize has a bias-conflicting training sample; else every other."""
        shortcuts = client_shortcuts(self.data.meta)
        found = any(shortcuts[client].aligned < 1 for client in self.clients)
        aligned = torch.ones(count, dtype=torch.bool, device=self.device)
        aligned[::2] = not found
        return aligned
