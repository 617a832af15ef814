"""How long the processes of a run wait for each other, and a picture of it. All times are in seconds.

While the run goes on; ``start_timeout`` and ``timeout`` are the user's, in ``comm_args``::

    rank 0                                          a worker
      |  waits start_timeout for HELLO                |
      |  <------------------ HELLO -----------------  |
      |  ------------------- OPEN ----------------->  |  waits start_timeout for a first message,
      |  <------------------ READY -----------------  |  from then on for ever
      |  -------------- GO, TRAIN, TASK ----------->  |
      |  <------------- TRAINED, ANSWER ------------  |
      |  waits for ever                               |
      |  <------------------ ALIVE ---------------->  |  every heartbeat_interval(timeout), both ways

    A peer that was silent for timeout is given up. A message that does not go is sent again after
    RESEND_INTERVAL. Who waited longer than SUSPENDED_AFTER in a step of POLL was suspended itself and blames
    nobody for it; after GIVEN_UP_SHARE of timeout it must expect, for JUST_WOKEN_UP, that it was given up.

When the run is done::

    rank 0                                          a worker
      |  ------------------- FINISH --------------->  |
      |  <------------------ BYE -------------------  |  waits WORKER_FLUSH_TIMEOUT for BYE to be sent, ends
      |  waits BYE_TIMEOUT for each BYE, ends            (over GRPC both: GRPC_STOP_GRACE for what comes in)

    Whether messages have gone is asked in steps of FLUSH_POLL.

When a worker fails; where all find the same wrong input, without the messages::

    rank 0                                          a worker
      |  <------------------ FAILED ----------------  |  waits WORKER_FLUSH_TIMEOUT for FAILED to be sent
      |  ------------------- STOP ----------------->  |  waits STOP_TIMEOUT for STOP
      |  waits STOP_FLUSH_TIMEOUT for STOP to be      |
      |  sent, prints, ends (under mpirun: all)          under mpirun: waits ABORT_TIMEOUT to be ended

When mpirun ends the processes, or is gone::

    mpirun -- SIGTERM -->  who prints waits MPIRUN_OUTPUT_DELAY, for mpirun to pass it on
                           a worker waits BLAME_DELAY, for rank 0 to find who died before
    mpirun is gone         everybody waits CLEAN_UP_TIMEOUT, for all to clean up before MPI ends them
"""

from __future__ import annotations

POLL = 0.2
"""Between two looks of a waiting thread at whether it should end: nobody notices it, and it takes no CPU."""

FLUSH_POLL = 0.01
"""Between two looks at whether the last messages have gone: nothing else is left to do."""

RESEND_INTERVAL = 0.5
"""Between two attempts to send: a peer over GRPC may not have started to listen yet."""

SUSPENDED_AFTER = 1.0
"""A wait of ``POLL`` that took longer: this process was stopped, not its peers; load costs less."""

GIVEN_UP_SHARE = 0.8
"""Of the timeout: asleep for longer, this process was given up, as peers count from its last heartbeat."""

JUST_WOKEN_UP = 5.0
"""After such a sleep: for the news that this process was given up to come in, and be understood so."""

BYE_TIMEOUT = 20.0
"""Rank 0, at the end, for each worker's BYE: a loaded worker needs seconds; the results are safe already."""

WORKER_FLUSH_TIMEOUT = 5.0
"""A worker for its last message to be sent; rank 0 ends without it too, and may be gone."""

STOP_TIMEOUT = 5.0
"""A worker that has failed, for rank 0's STOP, which tells that rank 0 will say what happened."""

STOP_FLUSH_TIMEOUT = 2.0
"""Rank 0 for STOP to be sent: one of the workers is dead perhaps, and the user waits."""

ABORT_TIMEOUT = 15.0
"""Under mpirun, a worker for rank 0 to say what all found and to end it: rank 0 may still import FedML."""

GRPC_STOP_GRACE = 5.0
"""A GRPC server for peers that are just sending: cut off, they would take what came for lost."""

BLAME_DELAY = 0.4
"""A worker that mpirun ends stays so long: found dead by rank 0, it would be taken for the cause."""

MPIRUN_OUTPUT_DELAY = 0.2
"""For mpirun to pass on what was printed just before the end."""

CLEAN_UP_TIMEOUT = 5.0
"""For temporary files to be removed by a process that has lost its mpirun."""


def heartbeat_interval(timeout: float) -> float:
    """Between two signs of life: several in a timeout, of which some may be late.

    Args:
        timeout: ``comm_args.timeout``, after which a silent process is given up.
    """
    return min(2.0, timeout / 5)
