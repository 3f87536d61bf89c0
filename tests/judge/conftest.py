"""The judge takes Java, Maven and half a minute: only who asks for it (``-m judge``) gets it."""

from __future__ import annotations


def pytest_collection_modifyitems(config, items):
    if "judge" in (config.option.markexpr or ""):
        return
    kept = [item for item in items if item.get_closest_marker("judge") is None]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
