"""pynetdicom as it comes, with a handler that does nothing."""

import logging
import sys

from pynetdicom import AE, AllStoragePresentationContexts, evt

logging.getLogger("pynetdicom").setLevel(100)
ae = AE("BENCH")
ae.supported_contexts = AllStoragePresentationContexts
ae.maximum_associations = 50
ae.maximum_pdu_size = 131072
ae.start_server(("127.0.0.1", int(sys.argv[1])), evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)])
