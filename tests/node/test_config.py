"""`node.toml`: every wrong key, member and edge is one clear line that names its place."""

import os

import pytest

from konsil.node.config import parse_config, read_config
from konsil.protocol.errors import ConfigError
from konsil.protocol.identity import SigningKey, node_id, peer_id

NODES = {
    name: (node_id(name.encode()), peer_id(SigningKey(bytes([i + 1]) * 32).public.raw))
    for i, name in enumerate(("bern", "graz", "ulm"))
}


def member(name, **other):
    row = {"name": name, "node": NODES[name][0], "peer": NODES[name][1], **other}
    return "[[members]]\n" + "".join(f'{key} = "{value}"\n' for key, value in row.items())


def toml(name="bern", members=("bern", "graz"), extra=""):
    head = f'[node]\nname = "{name}"\n[consortium]\nname = "c"\n{extra}\n'
    return (head + "".join(member(one) for one in members)).encode()


def test_a_good_file_is_read(tmp_path):
    path = tmp_path / "node.toml"
    path.write_bytes(toml())
    config = read_config(path)
    assert config.me().node == NODES["bern"][0]
    assert config.training.patience_s == 60.0
    assert len(config.charter().digest()) == 32


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (toml(extra="[training]\nlissten = 1"), ["lissten", "$.training"]),
        (toml(extra="[trainning]\n"), ["trainning"]),
        (toml(extra="[training]\nrounds = -1"), ["$.training.rounds"]),
        (toml(extra="[training]\nrounds = 'x'"), ["$.training.rounds"]),
        (toml(extra="[training]\ndevice = 'tpu'"), ["$.training.device"]),
        (toml(extra="[task]\nfactory = 'task'"), ["$.task.factory", "module:factory"]),
        (toml(name="Bern"), ["$.node.name"]),
        (toml(name="ulm"), ["ulm", "$.members"]),
        (toml(members=("bern", "bern")), ["$.members", "bern"]),
        (toml(members=()), ["members"]),
        (toml(extra="[artifacts]\ncodec = 'int4'"), ["int4", "$.artifacts.codec"]),
        (toml(extra="[artifacts]\nkind = 'logits'\ncodec = 'topk'"), ["logits", "few bytes"]),
        (toml(extra='[overlay]\nedges = [["bern", "wien"]]'), ["wien", "$.overlay.edges[0]"]),
        (toml(extra='[overlay]\nedges = [["bern", "bern"]]'), ["itself", "$.overlay.edges[0]"]),
        (b"[node\n", ["not TOML"]),
        (toml() + member("ulm", nodee="x").encode(), ["nodee"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, raw, words):
    path = tmp_path / "node.toml"
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.diagnostics()
    for word in words:
        assert word in caught.value.diagnostics()
    assert caught.value.exit_code == 5


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="no such file") as caught:
        read_config(tmp_path / "node.toml")
    assert "konsil init" in caught.value.hint


def test_addresses_and_order_do_not_change_the_charter(tmp_path):
    one = parse_config(toml(members=("bern", "graz")), tmp_path)
    two = parse_config(toml(members=("graz", "bern")), tmp_path)
    three = parse_config(toml(members=("bern", "graz", "ulm")), tmp_path)
    assert one.charter().digest() == two.charter().digest() != three.charter().digest()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xfe[\x00n\x00", "not TOML in UTF-8"),
        (b"a = " + b"[" * 100_000, "not TOML in UTF-8"),
        (toml(extra=f"[training]\nseed = {2**70}\n"), r"\$\.training\.seed|64 bit|range"),
        (
            toml(extra=f"[task.options]\nd = {2**70}\n"),
            r"64 bits - at `\$\.task\.options\.d`",
        ),
        (toml(extra=f"[task.options]\nd = [1, {-(2**70)}]\n"), r"options\.d\.1`"),
    ],
)
def test_what_no_worker_could_be_told_is_refused_in_one_line(tmp_path, raw, words):
    path = tmp_path / "node.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=words) as caught:
        read_config(path)
    assert "\n" not in caught.value.message


def test_a_pipe_is_no_configuration(tmp_path):
    os.mkfifo(tmp_path / "node.toml")
    with pytest.raises(ConfigError, match="this is no file"):
        read_config(tmp_path / "node.toml")
