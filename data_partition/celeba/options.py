"""Options that both partitions of CelebA have."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from data_partition.options import Ratios, Share, check_ratios
from data_partition.split_files.meta import MAX_CLIENTS
from fedml_spurious.common.frozen_model import FrozenModel

RawSplit = Literal["all", "train", "valid", "test"]
MissingImages = Literal["refuse", "skip"]


class CelebAOptions(FrozenModel):
    """Options that both partitions of CelebA have.

    Attributes:
        seed: seed of every draw.
        clients: number of clients; None for as many as the celebrities suffice for.
        identities_per_client: celebrities on each client.
        ratios: train:val:test on every client.
        raw_split: the official split whose images are used, or all of them.
        missing_images: refuse to work where images are missing, or skip their celebrities.
        keep_blond_males: share of the blond males in training and validation splits that is kept; in
            CelebA the correlation can be strengthened by leaving some out, and not weakened.
        label_noise: share of the training and validation samples of each class with the other label.
        dry_run: count only; needs no images and writes only the description.
    """

    seed: int = Field(0, ge=0, description="seed of every draw")
    clients: int | None = Field(
        None, ge=1, le=MAX_CLIENTS, description="number of clients, by default as many as possible"
    )
    identities_per_client: int = Field(20, ge=1, description="celebrities on each client")
    ratios: Ratios = Field((72, 8, 20), description="train:val:test on every client")
    raw_split: RawSplit = Field("all", description="use only this official split of CelebA")
    missing_images: Literal["refuse", "skip"] = Field(
        "refuse", description="where images are missing: stop, or skip their celebrities"
    )
    keep_blond_males: Share = Field(
        1.0, description="share of blond males to keep in training and validation splits, 0 to 1"
    )
    label_noise: Share = Field(0.0, description="share of wrong labels in training samples, 0 to 1")
    dry_run: bool = Field(False, description="count only: needs no images, writes only the description")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_ratios(self.ratios)
        return self
