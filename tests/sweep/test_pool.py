"""Calls in several processes: each answers, whatever happens to the others."""

from __future__ import annotations

from functools import partial

import calls

from fedml_spurious.sweep.pool import Processes


def test_a_killed_process_is_the_failure_of_its_call_alone() -> None:
    with Processes(2, threads=3) as processes:
        answers = dict(
            processes.do(
                {
                    "slow": partial(calls.pid_after, 0.5),
                    "dead": calls.die,
                    "late": partial(calls.pid_after, 0),
                }
            )
        )
        again = dict(processes.do({"threads": partial(calls.environment, "OMP_NUM_THREADS")}))
    assert answers["dead"] is None
    assert answers["slow"]
    assert answers["late"]
    assert again == {"threads": "3"}
