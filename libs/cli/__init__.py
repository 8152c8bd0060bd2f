"""`millrace`, the command: what customers and operators type, and the local profile that runs all on one machine."""

from libs.common.collector import collect_rarely

collect_rarely()  # Here, for this is the first of ours that `millrace` loads.
