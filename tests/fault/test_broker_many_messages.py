"""Many ready messages: the broker keeps their bodies on the disk, starts with them at once, and gives them back in order.

A million: `python -m tests.bench.broker_million`.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench.broker_million import MAX_START, measure

#: Messages, and bytes in each: what the bodies come to is many times what the broker may take for them.
MESSAGES, SIZE = 50_000, 2000

#: Resident bytes of a broker with all of them: an interpreter, what is under way, and the head of the queue.
MAX_MEMORY = 90 * 1000**2


def test_fifty_thousand_ready_messages_are_kept_on_disk_and_given_back_in_order_after_a_kill(tmp_path: Path) -> None:
    result = measure(tmp_path, MESSAGES, SIZE)

    print(result)
    assert result.file > MESSAGES * SIZE
    assert result.memory < MAX_MEMORY
    assert result.start < MAX_START
