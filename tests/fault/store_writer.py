"""A process that writes to a store until it is killed, and tells what it has written: `python store_writer.py PATH SEED`.

A line before each commit says what is tried, a line after it that it is done:

    try FIRST LAST ID,ID,…      the messages FIRST to LAST come, the others go
    done
"""

from __future__ import annotations

import os
import random
import sys

from hopd.broker.model import Gone
from hopd.broker.store import Store
from tests.support.stored import QUEUE, put


def body(id_: int) -> bytes:
    """What the message of that number holds: up to several pages of the database."""
    chosen = random.Random(id_)
    return chosen.randbytes(chosen.choice((0, 10, 100, 1000, 10_000)))


def main(path: str, seed: str) -> None:
    """Write for ever."""
    chosen = random.Random(seed)
    store = Store(path)
    restored = store.load()
    (queue,) = restored.queues
    ids, next_id = queue.ids, restored.next_id
    while True:
        first, next_id = next_id, next_id + chosen.randint(0, 40)
        chosen.shuffle(ids)
        going = [ids.pop() for _ in range(chosen.randint(0, min(len(ids), 40)))]
        os.write(1, f"try {first} {next_id - 1} {','.join(map(str, going))}\n".encode())
        store.submit([put(id_, body(id_)) for id_ in range(first, next_id)])
        store.submit([Gone(QUEUE, id_) for id_ in going])
        store.commit()
        os.write(1, b"done\n")
        ids.extend(range(first, next_id))


if __name__ == "__main__":
    main(*sys.argv[1:])
