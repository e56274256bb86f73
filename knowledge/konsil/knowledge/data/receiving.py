"""Receiving: one file over HTTP, continued by range requests, never longer than granted.

The content is not trusted: whoever calls checks its digest. A link that drops is dialled again,
`ATTEMPTS` times in all, each time from the first byte that is missing; every wait has a deadline.
Standard library only; proxies are those of the environment.
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError, LimitExceeded, UnreachableError

if TYPE_CHECKING:
    from typing import BinaryIO

    from konsil.knowledge.data.origins import File

ATTEMPTS = 4
TIMEOUT_S = 30.0
"""Seconds without a byte after which a link counts as dropped."""

_PIECE = 1 << 16
_WHOLE, _PART, _BEYOND = 200, 206, 416
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class _Dropped(Exception):
    """The link ended before the file did."""


def receive(file: File, part: BinaryIO, *, timeout_s: float = TIMEOUT_S) -> None:
    """Appends to `part` what its address has beyond the bytes that are there.

    Raises `UnreachableError` when nobody answers with the file, `LimitExceeded` when it is
    longer than `file.most_bytes` (then `part` is empty), `OSError` for the disk.
    """
    if not file.address.startswith(("https://", "http://")):
        raise ConfigError(f"{file.name}: {file.address!r} is no address of the web")
    reason = ""
    for _ in range(ATTEMPTS):
        try:
            return _once(file, part, timeout_s)
        except _Dropped as dropped:
            reason = str(dropped)
    raise _unreachable(file, f"{reason}, {ATTEMPTS} times")


def _once(file: File, part: BinaryIO, timeout_s: float) -> None:
    have = part.seek(0, os.SEEK_END)
    headers = {"User-Agent": "konsil", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(file.address, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as answer:
        answer.close()
        if answer.code == _BEYOND and have:
            return  # no byte is missing; the digest decides
        if answer.code in _AGAIN:
            raise _Dropped(f"the server answers {answer.code}") from None
        raise _unreachable(file, f"the server answers {answer.code}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as fault:
        reason = getattr(fault, "reason", None) or fault
        raise _Dropped(str(reason) or type(fault).__name__) from None
    with response:
        _take(file, part, response, have)


def _take(file: File, part: BinaryIO, response: http.client.HTTPResponse, have: int) -> None:
    """The body of one answer, at its place in the file."""
    start = 0
    if response.status == _PART:
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        start = int(found.group(1)) if found else -1
    if start not in (0, have) or response.status not in (_WHOLE, _PART):
        part.truncate(0)
        raise _Dropped("the server answers with another range than asked for")
    part.truncate(start)
    part.seek(start)
    length = response.headers.get("Content-Length", "")
    end = start + int(length) if length.isdecimal() else None
    if end is not None and end > file.most_bytes:
        raise _too_long(file, part)
    while piece := _piece(response):
        start += len(piece)
        if start > file.most_bytes:
            raise _too_long(file, part)
        part.write(piece)
    if end is not None and start < end:
        raise _Dropped("the connection was cut off")


def _piece(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_PIECE)
    except (http.client.HTTPException, OSError) as fault:
        raise _Dropped(str(fault) or type(fault).__name__) from None


def _too_long(file: File, part: BinaryIO) -> LimitExceeded:
    part.truncate(0)
    return LimitExceeded(
        f"{file.address} has more than {file.most_bytes} bytes",
        hint="this is not the pinned file; nothing was kept",
    )


def _unreachable(file: File, reason: str) -> UnreachableError:
    return UnreachableError(
        f"{file.address}: {reason}",
        hint="check network and proxy and fetch again, or give a folder with --from DIR",
    )
