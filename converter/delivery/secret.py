"""Secrets: from a file or the environment, read again when the file changes, shown to nobody."""

from __future__ import annotations

from pathlib import Path

from converter.errors import ConfigurationError

__all__ = ["Secret", "stamp"]


def stamp(*files: str) -> tuple[tuple[int, int, int], ...]:
    """By what files are known as unchanged; a file that is away for a moment counts as changed."""
    stamps = []
    for file in files:
        try:
            status = Path(file).stat()
        except OSError:
            stamps.append((0, 0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(stamps)


class Secret:
    """A secret of a destination.

    Parameters
    ----------
    key : str
        Key of the configuration, for messages.
    value : str
        From the environment.
    file : str
        File that holds it; it wins over ``value``.
    """

    def __init__(self, key: str, value: str, file: str) -> None:
        self._key = key
        self._value = value
        self._file = file
        self._stamp: object = None
        if file:
            self._value = ""
        if not self.read():
            where = f"the file {file} is empty" if file else f"name its file in {key}_file"
            raise ConfigurationError(f"{key}: {where}")

    def __repr__(self) -> str:
        """Nothing of the secret."""
        return f"Secret({self._key!r})"

    def read(self) -> str:
        """Give the secret as it stands now.

        Raises
        ------
        ConfigurationError
            The file cannot be read, and never could.
        """
        if not self._file:
            return self._value
        now = stamp(self._file)
        if now != self._stamp:
            try:
                value = Path(self._file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                if not self._value:
                    raise ConfigurationError(
                        f"{self._key}_file: cannot read {self._file}"
                    ) from error
            else:
                # a file that is just being written anew is empty for a moment
                self._value = value or self._value
                self._stamp = now
        return self._value
