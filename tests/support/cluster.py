"""A RabbitMQ cluster of private nodes on loopback.

    with Cluster(3) as cluster:
        cluster.wait_ready()
        WorkQueue(cluster.urls, queue_type="quorum")
        cluster.nodes[1].kill()

Every node has a loopback address of its own (127.0.0.1, 127.0.0.2 …) and all share one distribution port, so that they find
each other without epmd, a daemon that all Erlang nodes of a machine share and that outlives them.
"""

from __future__ import annotations

import secrets
import socket
from types import TracebackType

from tests.support.private_node import PrivateNode, free_port
from tests.support.waiting import wait_until

#: The nodes start in parallel on a machine that is busy with other tests. Seconds.
START_TIMEOUT = 120.0

#: A node that is killed must be missed at once, and one that comes back must be taken back without asking.
_CONFIG = """\
cluster_partition_handling = ignore
cluster_formation.peer_discovery_backend = classic_config
"""


class ClusterNode(PrivateNode):
    """One node of a cluster."""

    long_names = True

    def __init__(self, number: int, size: int, port: int, dist_port: int, cookie: str) -> None:
        self.host = _host(number)
        self.name = f"hop@{self.host}"
        members = "".join(f"cluster_formation.classic_config.nodes.{n} = hop@{_host(n)}\n" for n in range(1, size + 1))
        super().__init__(config=_CONFIG + members)
        self.port, self.dist_port = port, dist_port
        file = self.home / ".erlang.cookie"
        file.touch(mode=0o600)
        file.write_text(cookie)
        file.chmod(0o400)

    def _lost_its_port(self) -> bool:
        return False  # the others know where it is: it cannot move


class Cluster:
    """`size` nodes that know each other."""

    def __init__(self, size: int) -> None:
        dist_port, cookie = _free_on_all(size), secrets.token_hex(16)
        taken = {dist_port}
        self.nodes: list[ClusterNode] = []
        for number in range(1, size + 1):
            port = free_port(taken)
            taken.add(port)
            self.nodes.append(ClusterNode(number, size, port, dist_port, cookie))

    def __enter__(self) -> Cluster:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for node in self.nodes:
            node.close()

    @property
    def urls(self) -> list[str]:
        """The AMQP URLs of all nodes."""
        return [node.url for node in self.nodes]

    def wait_ready(self) -> Cluster:
        """Wait until all nodes serve and see each other."""
        for node in self.nodes:
            node.wait_ready(START_TIMEOUT)
        return self

    def wait_replicated(self, queue: str) -> None:
        """Wait until every node has its copy of a quorum queue online: before that, one more death could take the majority."""
        name = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
        online = f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), [{{online, Nodes}}] = rabbit_amqqueue:info(Q, [online]), length(Nodes)"
        wait_until(lambda: self.nodes[0].eval(online) == str(len(self.nodes)), START_TIMEOUT, f"{queue} is on every node")


def _host(number: int) -> str:
    return f"127.0.0.{number}"


def _free_on_all(size: int) -> int:
    while True:
        port = free_port()
        if all(_can_bind(_host(number), port) for number in range(2, size + 1)):
            return port


def _can_bind(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
