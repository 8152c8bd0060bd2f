"""Six services, one inner shape: `core` decides, `shell` acts, `service` joins the two, `__main__` runs it."""

from libs.common.collector import collect_rarely

collect_rarely()  # Here, for this is the first of ours that `python -m services.<name>` loads.
