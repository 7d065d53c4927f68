"""A reverse proxy on loopback that serves another server below a path prefix."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Proxy:
    """Passes requests below `prefix` to `upstream`, an address of this machine, and answers all others with 404."""

    def __init__(self, upstream: str, prefix: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                """Passes it on, and the answer back as it arrives."""
                if not self.path.startswith(prefix):
                    self.send_error(404)
                    return
                connection = http.client.HTTPConnection(upstream)
                connection.request("GET", "/" + self.path.removeprefix(prefix))
                answer = connection.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "date"):
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                try:
                    while piece := answer.read1(1 << 16):
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    pass  # The browser or the learner has left.
                finally:
                    connection.close()

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}{prefix}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Ends it."""
        self.server.shutdown()
        self.server.server_close()
