"""A page on this machine alone, which is made anew whenever it is asked for."""

import hashlib
import http.server
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from diffusion_jax.console import say
from diffusion_jax.errors import UserError

ADDRESS = "127.0.0.1"
_WATCHED = ("*", "grids/*", "pictures/*", "samples/*/results.json")  # what the page shows


class Server(http.server.ThreadingHTTPServer):
    """Serves a page at / and, at /changed, a text that changes with the files behind it.

    Args:
      page: makes the page out of `changed`, which it holds to know when to load itself again; a
        `UserError` from it is shown in its place, and it is tried again.
      workdirs: the run directories that it shows.
      port: 0 for any that is free.

    Raises:
      UserError: if the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, page: Callable[[str], str], workdirs: Sequence[Path], port: int):
        self._page, self._one, self.workdirs = page, threading.Lock(), workdirs
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UserError(
                f"port {port} cannot be had ({error.strerror}): give another, --serve={port + 1}"
            ) from error

    def page(self) -> str:
        """Make the page, one at a time: matplotlib's settings are global."""
        with self._one:
            return self._page(self.changed())

    def changed(self) -> str:
        """Return a hash of the names, sizes and times of the files that the page shows."""
        found = hashlib.sha256()
        for workdir in self.workdirs:
            for path in sorted(path for part in _WATCHED for path in workdir.glob(part)):
                try:
                    about = path.stat()
                except FileNotFoundError:  # replaced in this moment
                    continue
                found.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
        return found.hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """Answer with the page, or whether it has changed."""
        if self.path == "/changed":
            self._answer(200, "text/plain", self.server.changed())
        elif self.path == "/":
            try:
                self._answer(200, "text/html", self.server.page())
            except UserError as error:
                self._answer(503, "text/plain", f"{error}\n")
        else:
            self._answer(404, "text/plain", "there is only one page, /\n")

    def _answer(self, status: int, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        if status == 503:
            self.send_header("Refresh", "2")  # by then the file may be whole
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing for a request."""


def serve(page: Callable[[str], str], workdirs: Sequence[Path], port: int) -> None:
    """Serve a page until Ctrl-C.

    Raises:
      UserError: if the port cannot be had, or there is nothing to show.
    """
    with Server(page, workdirs, port) as server:
        server.page()  # a mistake is found here
        say(f"The report is at http://{ADDRESS}:{server.server_port}/ until Ctrl-C.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("Stopped.")
