"""A run folder as a program reads it: its settings, its global models, and its clients."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from data_partition.split_files.folder import SplitFolder, share_seal
from fedml_spurious.common.advice import for_a_program, translated
from fedml_spurious.common.checksums import require_unchanged
from fedml_spurious.common.errors import InputError
from fedml_spurious.config.file import load_settings
from fedml_spurious.config.settings import Settings
from fedml_spurious.experiment.client import ClientStep
from fedml_spurious.experiment.device import choose_device
from fedml_spurious.experiment.inputs import initial_network, splits_folder
from fedml_spurious.experiment.run_folder import RunFolder
from fedml_spurious.learning.checkpoints import load_checked, load_tensors
from fedml_spurious.results.budgets import read_budget
from fedml_spurious.results.folders import require_run_folder


class Run:
    """The folder of a run that is finished, or at least trained.

    Args:
        folder: where the run was written.
        settings: in place of those of the folder, where hosts or processes differ.
        samples: whether the images are needed; the description of the split files is enough otherwise.

    Attributes:
        settings: settings of the run.
        splits: its client split files; of the first federated seed, where each has a partition of its own.

    Raises:
        InputError: it is no run, or its split files are gone.
    """

    @translated(for_a_program)
    def __init__(self, folder: str | Path, settings: Settings | None = None, *, samples: bool = True) -> None:
        self.folder = RunFolder(Path(folder))
        require_run_folder(self.folder.path)
        require_unchanged(self.folder.config)
        self.settings = load_settings(self.folder.config) if settings is None else settings
        self._samples = samples
        self._opened: dict[Path, SplitFolder] = {}
        self.splits = self.splits_of(self.settings.fl_seeds[0])

    @translated(for_a_program)
    def splits_of(self, fl_seed: int) -> SplitFolder:
        """The client split files of a federated seed: one object for all, unless each has its own partition.

        Raises:
            InputError: they are gone, or the run has no partition of this seed.
        """
        place = splits_folder(self.settings, self.folder, self._seed(fl_seed))
        if place not in self._opened:
            name = self.settings.data_args.dataset
            self._opened[place] = SplitFolder(place, name=name, files=self._samples)
            share_seal(self._opened.values())
        return self._opened[place]

    @translated(for_a_program)
    def global_model(self, fl_seed: int | None = None) -> nn.Module:
        """The model that personalization started from, in training mode, on the device of the settings.

        Args:
            fl_seed: the federated seed; the first of the run where absent.

        Raises:
            InputError: the run has no such seed, or no finished model of it.
        """
        fl_seed = self._seed(fl_seed)
        recalibrated = self.settings.personalization_args.batchnorm == "recalibrate"
        part = self.folder.global_part(fl_seed)
        # Networks without running statistics have nothing to recalibrate.
        path = part / ("recalibrated.pt" if recalibrated else "model.pt")
        path = path if path.is_file() else part / "model.pt"
        if not path.is_file():
            raise InputError(f"{path}: no such file; the run has not finished the global model fl{fl_seed}")
        model = initial_network(self.settings, self.splits_of(fl_seed), fl_seed)
        load_checked(model, load_tensors(path), path)
        return model.to(choose_device(self.settings))

    def _seed(self, fl_seed: int | None) -> int:
        known = self.settings.fl_seeds
        if fl_seed is not None and fl_seed not in known:
            listed = ", ".join(map(str, known))
            raise InputError(f"{self.folder.path}: the run has no federated seed {fl_seed}; it has {listed}")
        return known[0] if fl_seed is None else fl_seed

    @translated(for_a_program)
    def client(self, client: str, fl_seed: int | None = None) -> ClientStep:
        """A client with the global model and the attack of a federated seed.

        Args:
            client: id of the client.
            fl_seed: the federated seed; the first of the run where absent.

        Raises:
            InputError: there is no such client, or the run has not got so far with this seed.
        """
        fl_seed = self._seed(fl_seed)
        budget = self.folder.global_part(fl_seed) / "budget.json"
        if not budget.is_file():
            raise InputError(f"{budget}: no such file; the run has personalized nothing with fl{fl_seed} yet")
        return ClientStep(
            self.settings,
            self.splits_of(fl_seed),
            self.global_model(fl_seed),
            client,
            eps=read_budget(budget).eps,
            fl_seed=fl_seed,
        )
