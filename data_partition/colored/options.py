"""Options that all coloured data sets share."""

from __future__ import annotations

import difflib
from typing import Self

from pydantic import Field, model_validator

from data_partition.colored.coloring import PALETTE
from data_partition.options import Names, Ratios, Share, check_ratios
from data_partition.split_files.meta import MAX_CLIENTS
from fedml_spurious.common.frozen_model import FrozenModel

DEFAULT_COLORS = 10
ALIASES = {"bias_conflicting_fraction": ["--conflicting-fraction"]}


class ColoredOptions(FrozenModel):
    """Options of a federation of coloured images.

    Attributes:
        seed: seed of every draw.
        clients: number of clients.
        classes_per_client: different classes on each client, at least 2.
        ratios: train:val:test on every client.
        bias_conflicting_fraction: share of a client's training and validation samples that get the colour of
            another class of the client. Their number is exact, rounded half up; every split, and every class
            in it, has its proportional part, rounded up on some clients and down on others.
        map_divergence: expected share of a client's classes whose colour differs from the shared map.
        label_noise: share of the training and validation samples of each class that get the label of
            another class of the client; the colour follows the wrong label.
        colors: how many colours of the palette to use.
        palette: the colours by name, instead of ``colors``.
        limit: use a part of the samples, with the classes in their proportions.
    """

    seed: int = Field(0, ge=0, description="seed of every draw")
    clients: int = Field(50, ge=1, le=MAX_CLIENTS, description="number of clients")
    classes_per_client: int = Field(5, description="different classes on each client, at least 2")
    ratios: Ratios = Field((72, 8, 20), description="train:val:test on every client")
    bias_conflicting_fraction: Share = Field(
        0.0, description="share of training samples in the colour of another class, 0 to 1"
    )
    map_divergence: Share = Field(
        1.0, description="0: all clients share one colour map, 1: every client has its own"
    )
    label_noise: Share = Field(0.0, description="share of wrong labels in training samples, 0 to 1")
    colors: int | None = Field(
        None, ge=2, le=len(PALETTE), description=f"number of colours, by default {DEFAULT_COLORS}"
    )
    palette: Names | None = Field(None, description="colours by name, for example red,green,blue")
    limit: int | None = Field(None, ge=1, description="use only so many samples, stratified by class")

    @property
    def color_names(self) -> tuple[str, ...]:
        """The colours in use."""
        return self.palette or tuple(PALETTE)[: self.colors or DEFAULT_COLORS]

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = [*self._palette_problems()]
        if self.classes_per_client < 2:
            problems.append(
                f"classes_per_client: {self.classes_per_client}: at least 2 are needed, because a "
                "bias-conflicting image has the colour of another class of its client"
            )
        if self.classes_per_client > len(self.color_names):
            problems.append(
                f"colors: {len(self.color_names)}, too few for classes_per_client {self.classes_per_client}"
            )
        try:
            check_ratios(self.ratios)
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _palette_problems(self) -> list[str]:
        if self.palette is None:
            return []
        problems = []
        for name in self.palette:
            if name not in PALETTE:
                near = difflib.get_close_matches(name, PALETTE, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PALETTE)}"
                problems.append(f"palette: no colour {name!r}; {hint}")
        twice = [name for name in dict.fromkeys(self.palette) if self.palette.count(name) > 1]
        if twice:
            problems.append(f"palette: names {', '.join(twice)} twice")
        if self.colors not in (None, len(self.palette)):
            problems.append(f"colors: {self.colors}, but palette names {len(self.palette)}; give one of them")
        return problems
