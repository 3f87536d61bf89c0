"""The C-STORE daemon: receivers, their journals, the ledger of studies, and what an operator sees of them."""

from __future__ import annotations
