"""The status page's addresses: what each shows, and to whom."""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from converter.errors import ConfigurationError, StoreError
from converter.listener import page
from converter.listener.board import Board
from converter.listener.window import STATES, Window

__all__ = ["StatusPages", "token_of"]

logger = logging.getLogger("converter.listener")
AT_ONCE = 2
"""Pages that look into the store at the same time."""
PATIENCE = 2.0
_HTML = "text/html; charset=utf-8"


class StatusPages:
    """`converter.listener.http.Pages` of a daemon.

    Parameters
    ----------
    board : Board
    look : callable
        Opens a `Window` on the store.
    """

    def __init__(self, board: Board, look: Callable[[], Window]) -> None:
        self._board = board
        self._look = look
        self._places = threading.BoundedSemaphore(AT_ONCE)
        self._style = Path(__file__).with_name("page.css").read_bytes()

    def get(self, target: str, *, trusted: bool) -> tuple[int, str, bytes] | None:
        """See `converter.listener.http.Pages.get`."""
        now = time.time()
        try:
            url = urlsplit(target)
            given = {k: v[-1] for k, v in parse_qs(url.query, max_num_fields=8).items()}
        except ValueError:
            return _page(400, page.message(now, "Not understood", "No such address."))
        if url.netloc or url.path not in {
            "/",
            "/page.css",
            "/studies",
            "/study",
            "/dead",
            "/associations",
        }:
            return _page(404, page.message(now, "Not found", "There is no such page."))
        if url.path == "/page.css":
            return 200, "text/css; charset=utf-8", self._style
        if url.path == "/":
            return _page(200, page.overview(now, self._board.summary()))
        if not trusted:
            return None
        if url.path == "/associations":
            return _page(200, page.associations(now, self._board.open))
        if not self._places.acquire(timeout=PATIENCE):
            return _page(503, page.message(now, "Busy", "Others read now. Try again in a moment."))
        try:
            return self._read(now, url.path, given)
        except StoreError as error:
            return _page(503, page.message(now, "The store does not answer", str(error)))
        except Exception as error:  # a fault of a page is no fault of the daemon
            logger.exception("a status page failed: %s", type(error).__name__)
            return _page(500, page.message(now, "This page failed", "The log says more."))
        finally:
            self._places.release()

    def _read(self, now: float, path: str, given: dict[str, str]) -> tuple[int, str, bytes]:
        state = given.get("state", "")
        moment = _number(given.get("time", ""))
        uid = given.get("uid", "").strip()
        with closing(self._look()) as window:
            if path == "/dead":
                after = None if moment is None else (moment, given.get("to", ""), uid)
                return _page(200, page.dead_letters(now, window.letters(after)))
            if path == "/studies":
                if state and state not in STATES:
                    return _page(404, page.message(now, "Not found", "There is no such state."))
                last = None if moment is None else (moment, uid)
                return _page(200, page.studies(now, window.listed(state, last), state))
            whole = window.whole(uid)
        if whole is None:
            return _page(404, page.message(now, "Not found", "No such study was received."))
        return _page(200, page.study(now, whole))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _page(status: int, text: str) -> tuple[int, str, bytes]:
    return status, _HTML, text.encode("utf-8", "backslashreplace")


def token_of(file: Path) -> str:
    """Token of the status page; the file is made where it is absent (mode 0600).

    Raises
    ------
    ConfigurationError
        Others may read it, it cannot be used, or it holds too little to be secret.
    """
    try:
        try:
            made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(made, "w", encoding="ascii") as stream:
                stream.write(secrets.token_urlsafe(24) + "\n")
        held = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(held, encoding="ascii") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                raise ConfigurationError(f"others may read {file}: make it 0600, or remove it.")
            token = stream.readline(256).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{file} cannot be used: {getattr(error, 'strerror', 'no ASCII')}"
        ) from error
    if len(token) < 16:
        raise ConfigurationError(f"{file} holds no token of 16 characters or more: remove it.")
    return token
