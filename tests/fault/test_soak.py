"""A minute of soak, the same one each time."""

from __future__ import annotations

import pytest

from tests.soak.schedule import KINDS, plan
from tests.support.process import ROOT, Processes

#: A minute of this seed holds every kind of fault.
SEED, MINUTES, DAEMONS = 28, 1, 3

#: A minute of faults, the start of four processes and the draining, on a machine that is busy. Seconds.
TIMEOUT = 400.0


def test_the_minute_of_this_seed_holds_every_kind_of_fault() -> None:
    assert {fault.kind for fault in plan(SEED, MINUTES * 60, DAEMONS)} == set(KINDS)


@pytest.mark.long
@pytest.mark.parametrize("kind", [pytest.param("rabbitmq", marks=pytest.mark.broker), "embedded"])
@pytest.mark.timeout(TIMEOUT + 60)
def test_a_minute_of_every_fault_loses_nothing(processes: Processes, kind: str) -> None:
    options = (f"--minutes={MINUTES}", f"--seed={SEED}", f"--daemons={DAEMONS}", f"--broker={kind}", "--rate=150")
    soak = processes.python("-m", "tests.soak", *options, cwd=ROOT)

    code = soak.wait(TIMEOUT)

    print(soak.stdout)
    assert code == 0, soak.stdout + soak.stderr[-5000:]
