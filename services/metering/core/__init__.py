"""What is counted, into which account, in which window: values in, values out, whole numbers only.

How a window learns what closed, exactly, under a crash anywhere: the ledger is the only truth. Whoever enters lines
also marks the window on the endpoint's meter: in the same commit for GPU time, in the same delivery, before its ack,
for requests. The reconciler compares a marked window that has closed with the ledger, and tells it as revision n + 1 if
it differs from revision n. A mark goes when it was read, after it was set, that nothing differs.

The told event's id is computed from the window and the revision, and a window takes only the revision after its own.
The window is read first and the ledger second, so every revision is newer than the one before, and none is told twice.
"""
