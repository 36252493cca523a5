"""Connections between a process and its own workers: Dask's over TCP on this machine, opened by a shared secret.

Whoever connects to a Dask process may run code in it. Its plain connections let everybody on the machine do so; these
are closed unless the first bytes are the secret, which the workers get from the process that starts them.
"""

from __future__ import annotations

import hmac
import secrets
from functools import cache
from typing import Any

from distributed.comm import registry
from distributed.comm.core import Comm
from distributed.comm.tcp import TCPBackend, TCPConnector, TCPListener
from tornado.iostream import IOStream, StreamClosedError

SCHEME = "intsim"
SECRET_BYTES = 32


@cache
def own_secret() -> bytes:
    """This process's, for whatever it starts; it makes and takes such connections from now on."""
    secret = secrets.token_bytes(SECRET_BYTES)
    open_with(secret)
    return secret


def open_with(secret: bytes) -> None:
    """Let this process make and take connections of that secret from now on."""

    class SecretConnector(TCPConnector):
        prefix = f"{SCHEME}://"

        async def connect(self, address: str, deserialize: bool = True, **arguments: Any) -> Comm:
            comm = await super().connect(address, deserialize, **arguments)
            await comm.stream.write(secret)
            return comm

    class SecretListener(TCPListener):
        prefix = f"{SCHEME}://"

        async def _prepare_stream(self, stream: IOStream, address: str) -> IOStream | None:
            try:
                if hmac.compare_digest(await stream.read_bytes(SECRET_BYTES), secret):
                    return stream
            except StreamClosedError:
                return None
            stream.close()
            return None

    class SecretBackend(TCPBackend):
        _connector_class = SecretConnector
        _listener_class = SecretListener

    registry.backends[SCHEME] = SecretBackend()
