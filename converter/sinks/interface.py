"""What every sink promises; ``tests/sinks/contract.py`` holds each to it.

Nothing that a sink leaves behind is half-written: after `Sink.close` everything written stands, after
`Sink.abort` (or a kill) what stood before stands as it was, or as a whole new resource.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Anew", "Json", "Sink"]

Json = dict[str, Any]


@runtime_checkable
class Sink(Protocol):
    """Where resources go."""

    def holds(self, resource_type: str) -> bool:
        """Whether resources of a type may stand at the destination from an earlier run."""

    def stands(self, resource_type: str, resource_id: str) -> Json | None:
        """Resource that stands at the destination, to be united with ours; ``None`` where none does.

        Raises
        ------
        StandingError
            It stands but cannot be read: it must not be overwritten.
        """

    def write(self, resource: Json) -> str:
        """Write a resource; callers write each type and id once.

        Returns
        -------
        str
            Where it is or will be, as a report names it.

        Raises
        ------
        SinkError
            The machine cannot take it.
        """

    def close(self) -> list[str]:
        """Finish: what was written stands from here on.

        Returns
        -------
        list of str
            Files that were written, relative to the output, in order; the folder where each resource has a
            file of its own; empty where there are none.
        """

    def abort(self) -> None:
        """Give up: leave no half-written thing behind. After `close` it does nothing."""


class Anew:
    """A sink that each run writes anew, so that nothing stands."""

    def holds(self, resource_type: str) -> bool:  # noqa: ARG002  the protocol's
        """Nothing stands."""
        return False

    def stands(self, resource_type: str, resource_id: str) -> Json | None:  # noqa: ARG002  the protocol's
        """Nothing stands."""
        return None
