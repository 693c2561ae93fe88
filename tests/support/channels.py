"""Look at the channels of one connection from the broker's side, and close one as the broker's own checks do."""

from __future__ import annotations

import re

from tests.support.embedded import EmbeddedNode
from tests.support.node import Node
from tests.support.node_control import NodeControl

# In the middle of its handshake a connection has no properties yet.
_CHANNELS = """
    Connections = [C || C <- rabbit_networking:connections(),
                        [{{client_properties, P}}] <- [catch rabbit_networking:connection_info(C, [client_properties])],
                        is_list(P),
                        lists:keyfind(<<"connection_name">>, 1, P) =:= {{<<"connection_name">>, longstr, <<"{name}">>}}],
    Infos = [{{Ch, catch rabbit_channel:info(Ch, [connection, consumer_count])}} || Ch <- rabbit_channel:list()],
    Channels = lists:sort([{{N, Ch}} || {{Ch, [{{connection, C}}, {{consumer_count, N}}]}} <- Infos, lists:member(C, Connections)]),
"""

# The node is told that the client acked a delivery it never got: a 406 closes the channel, and nothing but the channel.
_BREAK = """
    case [Ch || {{N, Ch}} <- Channels, N > 0] of
        [] -> none;
        Consuming ->
            Chosen = lists:nth(1 + trunc({dice} * length(Consuming)), Consuming),
            rabbit_channel:do(Chosen, {{'basic.ack', 4000000000, false}}),
            closed
    end
"""


def channel_pids(node: Node, connection_name: str) -> set[str]:
    """The channels of that connection, by what the broker calls them. Each name is used once."""
    if isinstance(node, EmbeddedNode):
        return {str(channel.serial) for channel in node.channels() if channel.client == connection_name}
    assert isinstance(node, NodeControl)
    return set(re.findall(r"<[0-9.]+>", node.eval(_CHANNELS.format(name=connection_name) + "[Ch || {_, Ch} <- Channels]")))


def break_channel(node: Node, connection_name: str, dice: float = 0.0) -> bool:
    """Have a consuming channel of that connection closed with 406; `dice` in [0, 1) picks which. False when it has none."""
    if isinstance(node, EmbeddedNode):
        consuming = [channel.serial for channel in node.channels() if channel.client == connection_name and channel.consumers]
        if consuming:
            node.close_channel(consuming[int(dice * len(consuming))])
        return bool(consuming)
    assert isinstance(node, NodeControl)
    return node.eval((_CHANNELS + _BREAK).format(name=connection_name, dice=float(dice))) == "closed"
