"""Noise for members only, and its bytes handled as seldom as Python allows.

The handshake and the cipher are libp2p's; membership is checked where the handshake ends.
libp2p's own session copies each byte a dozen times between socket and muxer and makes two
system calls for 64 KiB. The session here keeps a decrypted message until it is read, and
encrypts whatever it is given for a single system call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.io import (
    MAX_PLAINTEXT_LENGTH,
    SIZE_NOISE_MESSAGE_LEN,
    NoiseTransportReadWriter,
)
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.secure_session import SecureSession

from konsil.node.transports.libp2p_tcp import Socket

if TYPE_CHECKING:
    from collections.abc import Callable

    from libp2p.abc import IRawConnection, ISecureConn
    from libp2p.crypto.keys import KeyPair
    from libp2p.peer.id import ID


class MemberNoise(NoiseTransport):
    """Noise that ends with a check of membership: a stranger never gets past the handshake."""

    def __init__(
        self,
        key_pair: KeyPair,
        admit: Callable[[str], str],
        refused: Callable[[str, str], None],
    ) -> None:
        super().__init__(key_pair, create_noise_key_pair().private_key)
        self._ask = admit
        self._refused = refused

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        """Handshake as responder; raises HandshakeFailure for a stranger."""
        return await self._admit(await super().secure_inbound(conn), conn)

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        """Handshake as initiator; raises HandshakeFailure for a stranger."""
        return await self._admit(await super().secure_outbound(conn, peer_id), conn)

    async def _admit(self, secured: ISecureConn, conn: IRawConnection) -> ISecureConn:
        remote = secured.get_remote_peer()
        reason = "it uses our own key" if remote == self.local_peer else self._ask(str(remote))
        if reason:
            self._refused(str(remote), reason)
            await secured.close()
            raise HandshakeFailure(f"{remote}: {reason}")
        if not isinstance(conn, RawConnection) or not isinstance(conn.stream, Socket):
            raise HandshakeFailure("a connection that is not one of our sockets")
        if not isinstance(secured, SecureSession):
            raise HandshakeFailure("a handshake that is not Noise's")
        conn.stream.trusted = True
        return MemberSession(secured, conn, conn.stream)


class MemberSession(SecureSession):
    """What a finished handshake gives: a secured stream of bytes over the socket `wire`.

    One task reads at a time, and one writes: messages are numbered as they are encrypted.
    """

    def __init__(self, handshake: SecureSession, raw: RawConnection, wire: Socket) -> None:
        messages = handshake.conn
        if not isinstance(messages, NoiseTransportReadWriter):
            raise HandshakeFailure("a handshake that is not Noise's")
        super().__init__(
            local_peer=handshake.local_peer,
            local_private_key=handshake.local_private_key,
            remote_peer=handshake.remote_peer,
            remote_permanent_pubkey=handshake.remote_permanent_pubkey,
            is_initiator=handshake.is_initiator,
            conn=messages,
        )
        self.wire = wire
        self._raw = raw
        self._noise = messages.noise_state
        self._message = b""
        self._at = 0

    async def read(self, n: int | None = None) -> bytes:
        """`n` bytes, fewer only when the connection ends; without `n`, some bytes.

        Raises `ConnectionClosedError` when it has ended.
        """
        if self._at == len(self._message):
            self._message, self._at = await self._decrypted(), 0
        begin, held = self._at, len(self._message) - self._at
        if n is None or n <= held:
            self._at = begin + (held if n is None else n)
            return self._message[begin : self._at]
        parts, missing = [self._message[begin:]], n - held
        self._message, self._at = b"", 0
        while missing > 0:
            try:
                self._message = await self._decrypted()
            except ConnectionClosedError:
                break
            self._at = min(missing, len(self._message))
            parts.append(self._message[: self._at])
            missing -= self._at
        return b"".join(parts)

    async def _decrypted(self) -> bytes:
        """The next message; never empty. Raises `ConnectionClosedError` at the end."""
        head = await self._raw.read(SIZE_NOISE_MESSAGE_LEN)
        length = int.from_bytes(head, "big")
        body = await self._raw.read(length) if len(head) == SIZE_NOISE_MESSAGE_LEN else b""
        if len(body) < max(length, 1):
            raise ConnectionClosedError("the connection ended", transport="noise")
        message = bytes(self._noise.decrypt(body))
        if not message:
            raise ConnectionClosedError("an empty message ends the connection", transport="noise")
        return message

    async def write(self, data: bytes) -> None:
        """Encrypt `data` into messages as long as Noise permits, and write them at once."""
        sealed: list[bytes] = []
        for begin in range(0, len(data), MAX_PLAINTEXT_LENGTH):
            message = self._noise.encrypt(data[begin : begin + MAX_PLAINTEXT_LENGTH])
            sealed += (len(message).to_bytes(SIZE_NOISE_MESSAGE_LEN, "big"), message)
        await self._raw.write(b"".join(sealed))
