"""Decentralised SGD with one process a node, after Lian et al. (2017), over TCP on loopback.

Each node is a process with a listening socket and a connection to each neighbour. In a round it
trains, sends its whole model to all of them, waits for theirs of the same round, and takes the
mean. Everything heavy is imported before the processes part, so that its pages are shared.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.baselines import ready, tell
from konsil.knowledge.batches import keys_of
from konsil.knowledge.train import descend
from konsil.simulations.sim.bench.loop import module_of, task_of
from konsil.simulations.sim.bench.workload import accuracy

if TYPE_CHECKING:
    from konsil.simulations.sim.setting import Setting

HOST = "127.0.0.1"
HEAD = struct.Struct("<II")
"""The sender's number, and the round."""


def main(rounds: int) -> None:
    """Run all rounds and tell."""
    setting = ready(rounds)
    listeners = [_listener() for _ in range(setting.nodes)]
    ports = [one.getsockname()[1] for one in listeners]
    pipes = []
    for node, listener in enumerate(listeners):
        reader, writer = os.pipe()
        if os.fork() == 0:
            _be(setting, node, listener, ports, rounds, writer)
        os.close(writer)
        pipes.append(reader)
    elements = setting.network.layout.elements
    found = [_read_all(reader) for reader in pipes]
    for _ in pipes:
        os.wait()
    models = torch.stack(
        [torch.frombuffer(bytearray(one[8:]), dtype=torch.float32) for one in found]
    )
    assert models.shape == (setting.nodes, elements)
    spent = sum(struct.unpack("<d", one[:8])[0] for one in found)
    tell(accuracy(setting, models), setting.nodes * rounds, spent)


def _be(
    setting: Setting,
    node: int,
    listener: socket.socket,
    ports: list[int],
    rounds: int,
    writer: int,
) -> None:
    """The life of one node's process; it ends here."""
    code = 1
    try:
        links = setting.graphs.at(1)
        others = links.sender[links.receiver == node].tolist()
        begun = time.process_time()
        row = _learn(setting, node, _connected(node, others, listener, ports), rounds)
        answer = struct.pack("<d", time.process_time() - begun) + row
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        code = 0
    finally:
        if code:
            traceback.print_exc()  # nobody else would tell of it
        os._exit(code)


def _learn(setting: Setting, node: int, peers: list[socket.socket], rounds: int) -> bytes:
    """All rounds of one node; its last model as bytes."""
    layout, module, task = setting.network.layout, module_of(setting), task_of(setting, node)
    size = HEAD.size + 4 * layout.elements
    for number in range(1, rounds + 1):
        descend(task, module, keys_of([setting.seeds[node]], number))
        own = layout.row(module.state_dict())
        packet = HEAD.pack(node, number) + own.numpy().tobytes()
        sender = threading.Thread(target=_send, args=(peers, packet))
        sender.start()
        rows = [own]
        for peer in peers:
            data = _receive(peer, size)
            assert HEAD.unpack_from(data)[1] == number
            rows.append(torch.from_numpy(np.frombuffer(data, np.float32, offset=HEAD.size)))
        sender.join()
        module.load_state_dict(layout.tensors(torch.stack(rows).mean(0)))
    return layout.row(module.state_dict()).numpy().tobytes()


def _connected(
    node: int, others: list[int], listener: socket.socket, ports: list[int]
) -> list[socket.socket]:
    """One connection to each neighbour: the lower number calls, the higher answers."""
    found = [socket.create_connection((HOST, ports[other])) for other in others if other > node]
    found += [listener.accept()[0] for other in others if other < node]
    for one in found:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def _listener() -> socket.socket:
    listener = socket.create_server((HOST, 0), backlog=64)
    listener.settimeout(60)
    return listener


def _send(peers: list[socket.socket], packet: bytes) -> None:
    for peer in peers:
        peer.sendall(packet)


def _receive(peer: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while len(view):
        count = peer.recv_into(view)
        if count == 0:
            raise ConnectionError("a neighbour has gone")
        view = view[count:]
    return data


def _read_all(reader: int) -> bytes:
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
