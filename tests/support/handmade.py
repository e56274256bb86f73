"""Homes as a person makes them: the commands, and then an editor."""

from __future__ import annotations

from commands import files, konsil, run_node
from homes import free_ports


def make(root, *options):
    """A home as `konsil init` makes it, listening on a free port of loopback."""
    (port,) = free_ports(1)
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    done = konsil(
        "init", root, "--name", "bern", "--consortium", "alps", "--listen", listen, *options
    )
    assert done.code == 0
    return root


def edit(home, old, new):
    """Change one place of `node.toml`."""
    text = (home / "node.toml").read_text()
    assert old in text
    (home / "node.toml").write_text(text.replace(old, new, 1))


def append(path, text):
    """Write on where a file ends."""
    with path.open("a") as file:
        file.write(text)


def refused(home, code, *words):
    """`node run` ends with this code and one line with these words; the files are untouched.

    Returns what it did, for further looks.
    """
    before = files(home)
    done = run_node(home)
    assert done.code == code, done
    for word in words:
        assert word in done.complaint
    assert files(home) == before
    return done


def verify(home):
    """`konsil audit verify` in text form, and the object that its JSON form prints."""
    done, machine = konsil("audit", "verify", home), konsil("audit", "verify", home, "--json")
    assert done.code == machine.code
    value = machine.envelope("audit.verify")
    assert isinstance(value["data"]["findings"], list)
    return done, value


def flip(path, at):
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x20
    path.write_bytes(data)


TASK = """
import os
import time

import torch
from konsil.knowledge import Rows, Task
from torch import nn


def build(config):
    fault = config.options.get("fault")

    def fit(module, rows, generator):
        if fault == "raise":
            raise ValueError("no table today")
        if fault == "hang":
            time.sleep(3600)
        if fault == "die":
            os._exit(9)
        for weight in module.parameters():
            torch.nn.init.normal_(weight, generator=generator)
        return 0.5

    def rows(name):
        return Rows(torch.eye(8), torch.arange(8) % 2, [f"{name} {at}" for at in range(8)])

    return Task("tiny", ("no", "yes"), lambda: nn.Linear(8, 2), rows("a"), rows("b"), fit=fit)
"""


def tiny(root, training="", options=""):
    """A home with a task that takes no time, and that fails as its option `fault` says."""
    make(root, "--task", "task:build")
    (root / "task.py").write_text(TASK)
    edit(root, "[training]\nrounds = 50", f"[training]\npause_s = 0.05\n{training}")
    edit(root, "[task.options]", f"[task.options]\n{options}")
    return root
