"""One end of a plain transfer over trio, TCP or TLS 1.3, in a process of its own.

    python -m benchmarks.raw_end tcp|tls serve PAYLOAD FOLDER     sends PAYLOAD to whoever comes
    python -m benchmarks.raw_end tcp|tls pull FOLDER OFFER        receives it once

Nothing is verified, nothing is written to disk: what konsil does beyond sending bytes is
held against it. FOLDER holds the certificate.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from pathlib import Path

import trio

from benchmarks.certificate import NAME, write_certificate

BLOCK = 1 << 20


def tell(figures: object) -> None:
    """One line for the parent."""
    print(json.dumps(figures), flush=True)


async def serve(payload: Path, folder: Path, *, tls: bool) -> None:
    """Send the whole file to whoever connects, until stdin ends."""

    async def send(stream: trio.abc.Stream) -> None:
        with payload.open("rb") as file:
            while block := file.read(BLOCK):
                await stream.send_all(block)
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    served: list[trio.abc.Listener[trio.abc.Stream]] = [*listeners]
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(write_certificate(folder))
        served = [trio.SSLListener(one, context, https_compatible=True) for one in listeners]
    size = (await trio.Path(payload).stat()).st_size
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, send, served)
        used = time.process_time()
        tell({"port": port, "size": size})
        await trio.to_thread.run_sync(sys.stdin.readline)
        tell({"cpu": time.process_time() - used})
        nursery.cancel_scope.cancel()


async def pull(folder: Path, offer: dict[str, int], *, tls: bool) -> None:
    """Receive the whole file and count it; the handshake is over before the clock starts."""
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", offer["port"])
    if tls:
        context = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        secured = trio.SSLStream(stream, context, server_hostname=NAME, https_compatible=True)
        await secured.do_handshake()
        stream = secured
    used, began, total = time.process_time(), time.perf_counter(), 0
    while data := await stream.receive_some(BLOCK):
        total += len(data)
    seconds = time.perf_counter() - began
    assert total == offer["size"]
    tell({"seconds": seconds, "cpu": time.process_time() - used})


def main() -> None:
    """Be the end that the command line names."""
    stack, role, first, second = sys.argv[1:5]
    if role == "serve":
        trio.run(lambda: serve(Path(first), Path(second), tls=stack == "tls"))
    else:
        trio.run(lambda: pull(Path(first), json.loads(second), tls=stack == "tls"))


if __name__ == "__main__":
    main()
