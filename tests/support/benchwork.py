"""A trainer with the worker's own workbench, in this process: torch, but no second interpreter."""

from __future__ import annotations

from konsil.node.learning.worker import Worker
from konsil.node.learning.worker_messages import Failed, Open, Opened
from konsil.protocol.errors import TaskError


class BenchTrainer:
    """Stands in for `konsil.node.learning.trainer.Trainer`; what was asked of it is kept."""

    def __init__(self, opening: Open, log, *, timeout_s: float) -> None:
        self.restarts = 0
        self.state = "running"
        self.asked = []
        self._worker = Worker()
        self._opening = opening
        self._opened: Opened | None = None

    async def open(self) -> Opened:
        if self._opened is None:
            self._opened = self._answer(self._opening)
        return self._opened

    async def ask(self, request, kind):
        await self.open()
        self.asked.append(request)
        reply = self._answer(request)
        assert isinstance(reply, kind)
        return reply

    def _answer(self, request):
        reply = self._worker.answer(request)
        if isinstance(reply, Failed):
            raise TaskError(reply.what)
        return reply

    async def aclose(self) -> None:
        self.state = "stopped"
