"""What a billing system is told of each window, and what it said it has: whole numbers, values in, values out.

An `Export` is one window at one receiver. It knows what the ledger wants told (`quantity` of `revision`) and what the
receiver holds. The difference becomes one intent, committed with all its content before the first byte is sent; it is
sent under one id until the receiver answers, and only then the next is made. So the receiver gets each at least once,
tells repeats by the id, and holds the ledger's sum in the end. Revisions that were overtaken before they were sent
never leave.

Only the first sending of an intent can be known not to have arrived: after that an earlier one may have, whatever the
later ones say. A receiver forgets ids after a while; an intent whose outcome is unknown for longer than that is parked,
not sent again: people or a report must say whether it arrived. Nothing is guessed.
"""
