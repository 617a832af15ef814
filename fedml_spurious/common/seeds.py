"""Addressed randomness: every draw has its own generator, named by what it is for.

A draw depends on its address alone, not on which draws came before it, so that the order of the work,
the number of processes and an interruption leave every result as it is.
"""

from __future__ import annotations

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """What a draw is for. The numbers are part of every published result: never reuse or change one."""

    MODEL_INIT = 1
    CLIENT_SAMPLING = 2
    LOCAL_BATCHES = 3
    PERSONAL_BATCHES = 4
    BOOTSTRAP = 5
    LOCAL_NOISE = 6
    PERSONAL_NOISE = 7
    AUDIT_DONORS = 201
    AUDIT_PROBE = 202
    AUDIT_PEERS = 203
    RECOLORING = 21
    PARTITION_CLASSES = 101
    PARTITION_SAMPLES = 102
    PARTITION_SPLITS = 103
    PARTITION_COLORS = 104
    PARTITION_CONFLICTS = 105
    PARTITION_LABEL_NOISE = 106
    PARTITION_IDENTITIES = 107
    PARTITION_GROUPS = 108


def generator(seed: int, purpose: Purpose, *address: int) -> np.random.Generator:
    """The generator of one draw.

    Args:
        seed: the user's seed, at least 0.
        purpose: what the draw is for.
        *address: where in the experiment the draw happens (round, client, ...), each at least 0. All
            addresses of one purpose need the same length: numpy's seed sequences ignore trailing zeros.

    Returns:
        A fresh generator; the same address gives the same numbers everywhere.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, int(purpose), *address]))


def integer_seed(seed: int, purpose: Purpose, *address: int) -> int:
    """A 63-bit seed for libraries with generators of their own (torch)."""
    sequence = np.random.SeedSequence([seed, int(purpose), *address])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
