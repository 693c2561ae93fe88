"""How each kind of fault is done, and mended. The dispatch is the visible table at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hopd.errors import ControlError, ControlTimeout, NotRunning
from tests.soak.schedule import Fault
from tests.soak.topics import TOPICS
from tests.support.broker import START_TIMEOUT
from tests.support.channels import break_channel
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.soak.daemons import Daemon
    from tests.soak.stage import Stage

#: A cut happens within this many bytes: in the middle of a frame, of a handshake, of a body.
CUT_WITHIN = 20_000

#: How long is waited for a poisonous job to end its first process. Seconds.
POISON_TIMEOUT = 10.0

#: How many bytes a write has while the network is sliced, and how long each is held while it is slow (seconds).
SLICES = (1, 7, 100)
DELAYS = (0.02, 0.1, 0.3)


def inject(stage: Stage, fault: Fault) -> str:
    """Do it, wait as long as it lasts, mend it. Returns what there is to say about it."""
    return INJECTORS[fault.kind](stage, fault)


# --- the broker ---------------------------------------------------------------------------------


def _broker_kill(stage: Stage, fault: Fault) -> str:
    stage.node.kill()
    time.sleep(fault.seconds)
    stage.node.start()
    stage.node.wait_ready(START_TIMEOUT)
    return ""


def _broker_restart(stage: Stage, fault: Fault) -> str:
    stage.node.stop()
    time.sleep(fault.seconds)
    stage.node.start()
    stage.node.wait_ready(START_TIMEOUT)
    return ""


def _broker_freeze(stage: Stage, fault: Fault) -> str:
    stage.node.freeze()
    time.sleep(fault.seconds)
    stage.node.thaw()
    return ""


def _memory_alarm(stage: Stage, fault: Fault) -> str:
    return _alarm(stage, fault, "memory")


def _disk_alarm(stage: Stage, fault: Fault) -> str:
    return _alarm(stage, fault, "disk")


def _alarm(stage: Stage, fault: Fault, resource: str) -> str:
    stage.node.set_alarm(resource)
    time.sleep(fault.seconds)
    stage.node.clear_alarm(resource)
    return ""


def _connections_closed(stage: Stage, fault: Fault) -> str:
    stage.node.close_all_connections("closed by the soak")
    return ""


def _channel_closed(stage: Stage, fault: Fault) -> str:
    closed = break_channel(stage.node, f"hopd@{fault.target}-consume", fault.dice)
    return "" if closed else "it had no channel"


# --- the network --------------------------------------------------------------------------------


def _reset(stage: Stage, fault: Fault) -> str:
    stage.daemons[fault.target].proxy.reset()
    return ""


def _cut_up(stage: Stage, fault: Fault) -> str:
    return _cut(stage, fault, "up")


def _cut_down(stage: Stage, fault: Fault) -> str:
    return _cut(stage, fault, "down")


def _cut(stage: Stage, fault: Fault, direction: str) -> str:
    after = int(fault.dice * CUT_WITHIN)
    stage.daemons[fault.target].proxy.cut(direction, after)
    return f"after {after} B"


def _black_hole(stage: Stage, fault: Fault) -> str:
    proxy = stage.daemons[fault.target].proxy
    proxy.black_hole()
    time.sleep(fault.seconds)
    proxy.heal()
    return ""


def _refused(stage: Stage, fault: Fault) -> str:
    proxy = stage.daemons[fault.target].proxy
    proxy.refuse()
    proxy.reset()
    time.sleep(fault.seconds)
    proxy.heal()
    return ""


def _slow(stage: Stage, fault: Fault) -> str:
    proxy, delay = stage.daemons[fault.target].proxy, _one_of(DELAYS, fault)
    proxy.up.delay = proxy.down.delay = delay
    time.sleep(fault.seconds)
    proxy.heal()
    return f"{delay:g} s each way"


def _sliced(stage: Stage, fault: Fault) -> str:
    proxy, size = stage.daemons[fault.target].proxy, int(_one_of(SLICES, fault))
    proxy.up.slice = proxy.down.slice = size
    time.sleep(fault.seconds)
    proxy.heal()
    return f"{size} B"


# --- the daemons --------------------------------------------------------------------------------


def _daemon_kill(stage: Stage, fault: Fault) -> str:
    daemon = stage.daemons[fault.target]
    with daemon.hands_off:
        daemon.kill()
        time.sleep(fault.seconds)
        daemon.start()
    return ""


def _daemon_restart(stage: Stage, fault: Fault) -> str:
    daemon = stage.daemons[fault.target]
    with daemon.hands_off:
        before = time.monotonic()
        stage.check_exit(daemon, daemon.stop())
        took = time.monotonic() - before
        time.sleep(fault.seconds)
        daemon.start()
    return f"left in {took:.1f} s"


def _daemon_freeze(stage: Stage, fault: Fault) -> str:
    daemon = stage.daemons[fault.target]
    daemon.freeze()
    time.sleep(fault.seconds)
    daemon.thaw()
    return ""


def _topic_paused(stage: Stage, fault: Fault) -> str:
    daemon, topic = stage.daemons[fault.target], _topic_of(fault)
    trouble = _steer(daemon, "pause", topics=[topic])
    time.sleep(fault.seconds)
    _steer(daemon, "resume", topics=[topic])
    return topic + trouble


def _config_changed(stage: Stage, fault: Fault) -> str:
    daemon, topic = stage.daemons[fault.target], _topic_of(fault)
    stage.configure(halved=topic)
    trouble = _steer(daemon, "reload")
    time.sleep(fault.seconds)
    stage.configure()
    _steer(daemon, "reload")
    return topic + trouble


def _topic_of(fault: Fault) -> str:
    return TOPICS[int(fault.dice * len(TOPICS))].name


def _steer(daemon: Daemon, command: str, **arguments: object) -> str:
    """Why the daemon did not do it. One that a poisonous job has just ended does not, and starts unpaused and with the config as it is."""
    try:
        daemon.control.call(command, arguments, timeout=20.0)
    except (NotRunning, ControlTimeout, ControlError) as error:
        return f": {error}"
    return ""


# --- the jobs -----------------------------------------------------------------------------------


def _poison(stage: Stage, fault: Fault) -> str:
    before = len(stage.keeper.poisoned)
    stage.load.put("poison")
    try:
        wait_until(lambda: len(stage.keeper.poisoned) > before, POISON_TIMEOUT)
    except AssertionError:
        return "nobody took it yet"
    return ""


def _outage(stage: Stage, fault: Fault) -> str:
    stage.outage.touch()
    time.sleep(fault.seconds)
    stage.outage.unlink()
    return ""


def _one_of(choices: tuple[float, ...], fault: Fault) -> float:
    return choices[int(fault.dice * len(choices))]


INJECTORS: Mapping[str, Callable[[Stage, Fault], str]] = {
    "broker_kill": _broker_kill,
    "broker_restart": _broker_restart,
    "broker_freeze": _broker_freeze,
    "memory_alarm": _memory_alarm,
    "disk_alarm": _disk_alarm,
    "connections_closed": _connections_closed,
    "channel_closed": _channel_closed,
    "reset": _reset,
    "cut_up": _cut_up,
    "cut_down": _cut_down,
    "black_hole": _black_hole,
    "refused": _refused,
    "slow": _slow,
    "sliced": _sliced,
    "daemon_kill": _daemon_kill,
    "daemon_restart": _daemon_restart,
    "daemon_freeze": _daemon_freeze,
    "config_changed": _config_changed,
    "topic_paused": _topic_paused,
    "poison": _poison,
    "outage": _outage,
}
