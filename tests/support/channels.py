"""Look at the channels of one connection from the broker's side, and close one as the broker's own checks do."""

from __future__ import annotations

import re

from hopd.demo.node_control import NodeControl

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


def channel_pids(node: NodeControl, connection_name: str) -> set[str]:
    """The channels of that connection, by what the broker calls them. Each name is used once."""
    return set(re.findall(r"<[0-9.]+>", node.eval(_CHANNELS.format(name=connection_name) + "[Ch || {_, Ch} <- Channels]")))


def break_channel(node: NodeControl, connection_name: str, dice: float = 0.0) -> bool:
    """Have a consuming channel of that connection closed with 406; `dice` in [0, 1) picks which. False when it has none."""
    return node.eval((_CHANNELS + _BREAK).format(name=connection_name, dice=float(dice))) == "closed"
