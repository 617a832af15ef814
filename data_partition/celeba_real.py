"""CelebA_R: every client represents 20 celebrities (appendix C.1 of the paper).

    python -m data_partition.celeba_real --raw DIR --out DIR

Label: male or female. Spurious feature: blond hair. 10,177 celebrities make 508 clients, 17 are left over
and dropped. 72:8:20 of a client's images train, validate and test. The blond males of its biased test set
are its bias-conflicting test set, copied. Personalized are the clients with more than 5 blond female
training and more than 5 blond male test samples; on random splits those are few (1 to 11 of 508 over 40
seeds, 6 to 71 blond males in all, where the paper has 161).
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from data_partition.celeba.build import FederationPlan, build_celeba
from data_partition.celeba.clients import deal_identities, personalized_clients, plan_clients
from data_partition.celeba.download import download_celeba
from data_partition.celeba.labels import CelebALabels
from data_partition.celeba.options import CelebAOptions
from data_partition.command import partition_command
from data_partition.registry import Progress
from fedml_spurious.common.arrays import IndexArray
from fedml_spurious.common.errors import InputError

NAME = "celeba_real"


class Options(CelebAOptions):
    """Options of CelebA_R; see :class:`~data_partition.celeba.options.CelebAOptions` for the others.

    Attributes:
        train_blond_females_above: personalized clients have more blond female training samples.
        test_blond_males_above: personalized clients have more blond male test samples.
    """

    train_blond_females_above: int = Field(
        5, ge=0, description="personalized clients have more blond female training samples"
    )
    test_blond_males_above: int = Field(
        5, ge=0, description="personalized clients have more blond male test samples"
    )


def plan(labels: CelebALabels, rows: IndexArray, *, options: Options) -> FederationPlan:
    """Deal the celebrities of the given images to clients and split each client's images.

    Args:
        labels: of all images.
        rows: images that may be used; of a celebrity all or none, shape (M,).
        options: of the federation.

    Raises:
        InputError: there are too few celebrities.
    """
    identities = np.unique(labels.identity[rows])
    num_clients = options.clients or len(identities) // options.identities_per_client
    if num_clients == 0:
        raise InputError(
            f"{len(identities)} celebrities are too few for one client of {options.identities_per_client}; "
            "ask for fewer with --identities-per-client"
        )
    shares, left_over = deal_identities(
        identities,
        num_clients=num_clients,
        identities_per_client=options.identities_per_client,
        seed=options.seed,
    )
    clients = plan_clients(labels, rows, shares, first_client=0, ratios=options.ratios, seed=options.seed)
    thresholds = {
        "train_blond_females_above": options.train_blond_females_above,
        "test_blond_males_above": options.test_blond_males_above,
    }
    left_out = {
        "identities_left_over": len(left_over),
        "images_of_identities_left_over": int(np.isin(labels.identity[rows], left_over).sum()),
    }
    personalized = personalized_clients(clients, labels, **thresholds)
    return FederationPlan(clients, personalized, thresholds, left_out)


def build(
    options: BaseModel,
    *,
    raw: Path | None,
    out: Path,
    progress: Progress | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the splits; see :class:`~data_partition.registry.Build`."""
    options = Options.model_validate(options)
    return build_celeba(
        NAME,
        options,
        functools.partial(plan, options=options),
        raw=raw,
        out=out,
        progress=progress,
        workers=workers,
        overwrite=overwrite,
    )


command = partition_command(
    NAME,
    Options,
    build,
    help_text="CelebA_R: every client represents 20 celebrities; blond hair goes with female.",
    download=download_celeba,
)

if __name__ == "__main__":
    command()
