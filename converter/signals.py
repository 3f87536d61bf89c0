"""Signals that ask for an end."""

from __future__ import annotations

import signal

__all__ = ["ending"]


def ending() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and the SIGHUP of a terminal that closes, unless ``nohup`` says to outlive it."""
    asked = (signal.SIGINT, signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return asked
    return (*asked, signal.SIGHUP)
