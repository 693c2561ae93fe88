"""All exchanges of a broker and the bindings from them, and the way of a message through them."""

from __future__ import annotations

from collections.abc import Sequence

from hopd.broker.arguments import check_same, check_same_arguments, check_text
from hopd.broker.exchanges import ALTERNATE, ROUTERS, Exchange
from hopd.broker.headers import split
from hopd.broker.ledger import Ledger
from hopd.broker.model import Arguments, Bound, ExchangeDeclared, ExchangeDeleted, Message, Unbound
from hopd.broker.queue import Queue
from hopd.broker.refusal import Code, Refused

#: How names begin that only the broker gives.
RESERVED = "amq."

_PREDECLARED = {"amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers", "amq.match": "headers"}


class Topology:
    """Exchanges by name. The default exchange is none of them: it leads to the queue that a routing key names."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._exchanges = {name: _exchange(name, kind) for name, kind in _PREDECLARED.items()}

    def find(self, name: str) -> Exchange:
        """The exchange of that name; 404."""
        exchange = self._exchanges.get(name)
        if exchange is None:
            raise Refused(Code.NOT_FOUND, f"no exchange '{name}' in vhost '/'")
        return exchange

    def get(self, name: str) -> Exchange | None:
        """The exchange of that name, if there is one."""
        return self._exchanges.get(name)

    def route(self, exchange: Exchange, message: Message, keys: Sequence[str]) -> list[Queue]:
        """The queues that a message reaches with any of `keys`. Where an exchange leads nowhere, its alternate takes over."""

        def headers() -> dict[object, object]:
            return split(message.properties).headers

        queues: dict[Queue, None] = {}
        seen = {exchange}
        waiting = [exchange]
        while waiting:
            here = waiting.pop()
            found = [destination for key in keys for destination in here.find(key, headers)]
            if not found and here.alternate in self._exchanges:
                found = [self._exchanges[here.alternate]]
            for destination in found:
                if not isinstance(destination, Exchange):
                    queues[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    waiting.append(destination)
        return list(queues)

    # --- exchanges ----------------------------------------------------------------------------------------------------

    def declare(self, name: str, kind: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments) -> None:
        """Make an exchange; one that is there has to be the same (406)."""
        name = cleaned(name)
        if kind not in ROUTERS:
            raise Refused(Code.COMMAND_INVALID, f"unknown exchange type '{kind}'")
        check_not_default(name)
        exchange = self._exchanges.get(name)
        if exchange is not None:
            _check_same(exchange, kind, durable, auto_delete, internal, arguments)
            return
        if name.startswith(RESERVED):
            raise Refused(Code.ACCESS_REFUSED, f"exchange name '{name}' contains reserved prefix 'amq.*'")
        check_text(f"exchange '{name}'", ALTERNATE, arguments)
        self._exchanges[name] = Exchange(name, kind, durable=durable, auto_delete=auto_delete, internal=internal, arguments=arguments)
        if durable:
            self._ledger.note(ExchangeDeclared(name, kind, auto_delete, internal, arguments))

    def check_declared(self, name: str) -> None:
        """There is an exchange of that name; 404."""
        check_not_default(name)
        self.find(cleaned(name))

    def delete(self, name: str, *, if_unused: bool) -> None:
        """Delete an exchange, if there is one, and the bindings from and to it."""
        name = cleaned(name)
        check_not_default(name)
        if name.startswith(RESERVED):
            raise Refused(Code.ACCESS_REFUSED, f"deletion of system exchange '{name}' in vhost '/' not allowed")
        exchange = self._exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bound:
            raise Refused(Code.PRECONDITION_FAILED, f"exchange '{name}' in vhost '/' in use")
        self._delete(exchange)

    def _delete(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.name]
        if exchange.durable:
            self._ledger.note(ExchangeDeleted(exchange.name))
        self.forget(exchange)

    # --- bindings -----------------------------------------------------------------------------------------------------

    def source(self, name: str) -> Exchange:
        """The exchange of that name, to bind something to it: not the default one (403), and one that is there (404)."""
        name = cleaned(name)
        check_not_default(name)
        return self.find(name)

    def bind(self, source: Exchange, destination: Queue | Exchange, key: str, arguments: Arguments) -> None:
        """What reaches `source` with that key goes on to `destination`."""
        if source.bind(destination, key, arguments) and source.durable and destination.durable:
            self._ledger.note(Bound(source.name, destination.name, isinstance(destination, Exchange), key, arguments))

    def unbind(self, source: Exchange, destination: Queue | Exchange, key: str, arguments: Arguments) -> None:
        """End a binding, if there is one. An exchange that deletes itself does so with its last one."""
        if not source.unbind(destination, key, arguments):
            return
        if source.durable and destination.durable:
            self._ledger.note(Unbound(source.name, destination.name, isinstance(destination, Exchange), key, arguments))
        self._leave_if_unused(source)

    def forget(self, destination: Queue | Exchange) -> None:
        """A destination is gone, and the bindings to it. The store knows that by itself."""
        for exchange in list(self._exchanges.values()):
            if exchange.unbind_all(destination):
                self._leave_if_unused(exchange)

    def _leave_if_unused(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bound and self._exchanges.get(exchange.name) is exchange:
            self._delete(exchange)

    def restore(self, found: ExchangeDeclared) -> None:
        """An exchange from the store."""
        self._exchanges[found.name] = Exchange(
            found.name,
            found.kind,
            durable=True,
            auto_delete=found.auto_delete,
            internal=found.internal,
            arguments=found.arguments,
        )


def cleaned(name: str) -> str:
    """A name as RabbitMQ takes it: without line ends."""
    return name.replace("\n", "").replace("\r", "")


def check_not_default(name: str) -> None:
    """The name is not that of the default exchange; 403."""
    if not name:
        raise Refused(Code.ACCESS_REFUSED, "operation not permitted on the default exchange")


def _exchange(name: str, kind: str) -> Exchange:
    return Exchange(name, kind, durable=True, auto_delete=False, internal=False, arguments={})


def _check_same(exchange: Exchange, kind: str, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments) -> None:
    what = f"exchange '{exchange.name}'"
    check_same(what, "type", kind, exchange.kind)
    check_same(what, "durable", durable, exchange.durable)
    check_same(what, "auto_delete", auto_delete, exchange.auto_delete)
    check_same(what, "internal", internal, exchange.internal)
    check_same_arguments(what, arguments, exchange.arguments, (ALTERNATE,))
