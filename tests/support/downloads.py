"""A publisher of files on loopback, with range requests, that can be made to fail.

`Publisher.wrong` tells, request by request, what goes wrong; when it is empty all goes well.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any


class Publisher:
    """Files by path, the ranges that were asked for, and the faults still to come."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.address = ""


@contextlib.contextmanager
def publishing() -> Iterator[Publisher]:
    """A publisher that answers while the block runs."""
    publisher = Publisher()

    class Answer(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            publisher.asked.append(wanted)
            fault = publisher.wrong.pop(0) if publisher.wrong else ""
            content = publisher.files.get(self.path)
            if fault.isdecimal() or content is None:
                self.send_error(int(fault or 404))
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            if wanted and start >= len(content):
                self.send_error(416)
                return
            if fault == "whole":
                start = 0
            body = content[start:]
            self.send_response(206 if start else 200)
            if start:
                place = start + 1 if fault == "elsewhere" else start
                self.send_header("Content-Range", f"bytes {place}-{len(content) - 1}/*")
            if fault != "unmeasured":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    publisher.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
