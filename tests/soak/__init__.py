"""The soak: random faults from a seed, under load, and a ledger at the end.

    python -m tests.soak --minutes 10 --seed 42

Three daemons, each behind a bad network of its own, work on one broker while several producers put jobs whose handlers are quick,
sleep, fail, hang, decide for themselves and crash. Whatever the schedule breaks is mended again; at the end everything is healed
and drained, and every job that the broker confirmed must have come to the end that it was put for.

Not in here: reload, which the daemon does not have yet.
"""
