"""``--dry-run``: everything but the writing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converter.sinks.files import read_standing, relative_path

if TYPE_CHECKING:
    from pathlib import Path

    from converter.sinks.interface import Json

__all__ = ["NullSink"]


class NullSink:
    """Takes resources and keeps none.

    Parameters
    ----------
    folder : Path, optional
        Output folder of JSON files, read but never written: so a dry run unites as the real one would.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def holds(self, resource_type: str) -> bool:
        """Whether the folder holds resources of a type."""
        return self.folder is not None and (self.folder / resource_type).is_dir()

    def stands(self, resource_type: str, resource_id: str) -> Json | None:
        """Resource that stands in the folder."""
        if self.folder is None:
            return None
        return read_standing(self.folder, resource_type, resource_id)

    def write(self, resource: Json) -> str:
        """Say where it would go."""
        return relative_path(str(resource.get("resourceType", "")), str(resource.get("id", "")))

    def close(self) -> list[str]:
        """Nothing was written."""
        return []

    def abort(self) -> None:
        """Nothing to undo."""
