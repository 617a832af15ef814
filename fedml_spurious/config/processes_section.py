"""The section on the processes of a run and how they talk."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from fedml_spurious.config.fields import Section, SiloClients, as_tuple

_ADDRESS = re.compile("[A-Za-z0-9.-]+:([0-9]{1,5})")


def _has_port(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise PydanticCustomError("port", "host:port with a port from 1 to 65535")
    return address


def _is_this_machine(host: str) -> bool:
    """Whether a host is the loopback interface, and not merely called like its addresses."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_Address = Annotated[str, AfterValidator(_has_port)]
Addresses = Annotated[tuple[_Address, ...], Field(min_length=2), BeforeValidator(as_tuple)]


class CommArgs(Section):
    """``comm_args``: the processes of a run and how they talk.

    Attributes:
        backend: ``sp`` is one process, ``MPI`` is for processes that ``mpirun`` starts, ``GRPC`` for those
            that are started one by one with ``--rank`` and ``--role``.
        timeout: seconds without a sign of life after which a process is given up and the run ends.
        start_timeout: seconds that the server waits for all workers at the start.
        silos: number of processes beside the server; for GRPC on one machine.
        silo_clients: ids of the clients of each silo; dealt in turn where it is absent.
        grpc_addresses: ``host:port`` of every rank, the server first; on this machine where it is absent.
        grpc_base_port: port of the server on this machine; rank N has this port plus N.
        grpc_network: consent to addresses outside this machine: GRPC as FedML has it neither encrypts nor
            asks who is there, so that whoever reaches the port can take part.
    """

    backend: Literal["sp", "MPI", "GRPC"] = "sp"
    timeout: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 60.0
    start_timeout: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 180.0
    silos: Annotated[int, Field(ge=1, le=10_000)] | None = None
    silo_clients: SiloClients | None = None
    grpc_addresses: Addresses | None = None
    grpc_base_port: int = Field(default=8890, ge=1, le=65000)
    grpc_network: bool = False

    @property
    def silo_count(self) -> int | None:
        """Number of processes beside the server, where the settings fix it."""
        if self.grpc_addresses is not None:
            return len(self.grpc_addresses) - 1
        return self.silos if self.silo_clients is None else len(self.silo_clients)

    @model_validator(mode="after")
    def _processes_fit(self) -> CommArgs:
        counts = {
            "silos": self.silos,
            "silo_clients": self.silo_clients and len(self.silo_clients),
            "grpc_addresses": self.grpc_addresses and len(self.grpc_addresses) - 1,
        }
        given = {name: count for name, count in counts.items() if count is not None}
        if len(set(given.values())) > 1:
            listed = ", ".join(f"{name} names {count}" for name, count in given.items())
            raise PydanticCustomError("silos", "numbers of silos differ: {listed}", {"listed": listed})
        named = self.grpc_addresses or ()
        twice = [item for item in named if named.count(item) > 1]
        if twice:
            raise PydanticCustomError(
                "address", "grpc_addresses: two ranks have {address}", {"address": twice[0]}
            )
        if self.grpc_addresses is None and self.grpc_base_port + (self.silo_count or 0) > 65535:
            raise PydanticCustomError(
                "port",
                "grpc_base_port: the ports of {silos} silos end above 65535",
                {"silos": self.silo_count},
            )
        outside = [item for item in named if not _is_this_machine(item.rpartition(":")[0])]
        if outside and not self.grpc_network:
            raise PydanticCustomError(
                "network",
                "{address} is not this machine alone, and GRPC here neither encrypts nor asks who is there; "
                "in a network that you trust set comm_args.grpc_network=true",
                {"address": outside[0]},
            )
        return self
