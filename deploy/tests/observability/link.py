"""A network link between an actor and its learner that the test can slow down and cut."""

from __future__ import annotations

import socket
import threading
import time


class Link:
    """Forwards a port of its own on loopback to another one."""

    # Small, so that a slow link delays every message and not only every megabyte.
    PIECE = 4096

    def __init__(self, target: int) -> None:
        self.target = target
        # Bytes per second upwards; None means no limit.
        self.up_rate: int | None = None
        self._open = threading.Event()
        self._open.set()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection, and new ones at once."""
        self._open.clear()
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            _close(end)

    def mend(self) -> None:
        """Lets connections through again."""
        self._open.set()

    def close(self) -> None:
        """Ends the link for ever."""
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                _close(near)
                continue
            with self._lock:
                let_through = self._open.is_set()
                if let_through:
                    self._ends += [near, far]
            if not let_through:
                _close(near)
                _close(far)
                continue
            for source, sink, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._forward, args=(source, sink, up), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            while piece := source.recv(self.PIECE if up else 1 << 16):
                sink.sendall(piece)
                rate = self.up_rate
                if up and rate is not None:
                    # This is no wait for a condition, but the time on the wire.
                    time.sleep(len(piece) / rate)
        except OSError:
            pass
        _close(source)
        _close(sink)


def _close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
