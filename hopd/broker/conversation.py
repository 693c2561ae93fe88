"""One channel of one client, as pure code: methods come in, the state is called, answers go out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from hopd.broker import methods as m
from hopd.broker.confirms import Confirms
from hopd.broker.desk import Desk
from hopd.broker.inbound import ACK, REJECT, Command, Publish, Settle
from hopd.broker.model import MESSAGE_OVERHEAD, Message
from hopd.broker.outbound import Outbound
from hopd.broker.peek import peek
from hopd.broker.refusal import Code, Refused

_SERIALS = itertools.count(1)


class Conversation:
    """What goes on on a channel. `owner` is the session it belongs to, for the state; everything here may raise `Refused`.

    A method's answer comes behind the deliveries of what was before it, and before those that it causes itself.
    """

    def __init__(self, desk: Desk, owner: object, number: int, user: str, out: Outbound) -> None:
        self.number = number
        #: Tells it from every other, also from one that had its number before.
        self.serial = next(_SERIALS)
        self.user = user
        self.confirms: Confirms | None = None
        self._desk = desk
        self._state = desk.state
        self._owner = owner
        self._out = out
        self._last_queue: str | None = None
        self._channel = self._state.open_channel(owner, number)

    @property
    def consumers(self) -> int:
        """How many it has."""
        return len(self._channel.consumers)

    def close(self) -> None:
        """End it; what is unsettled goes back."""
        self._state.close_channel(self._channel, self._desk.now)

    # --- messages -----------------------------------------------------------------------------

    def publish(self, event: Publish) -> None:
        """Route a message."""
        target, properties, body = event.target, event.properties, event.body
        if target.immediate:
            raise Refused(Code.NOT_IMPLEMENTED, "immediate=true")
        peeked = peek(properties)
        if peeked.user_id is not None:
            self._check_user(peeked.user_id.decode("utf-8", "replace"))
        size = len(properties) + len(body) + MESSAGE_OVERHEAD
        persistent, priority, expiration = peeked.persistent, peeked.priority, peeked.expiration
        message = Message(target.exchange, target.routing_key, properties, body, persistent, priority, expiration, size)
        published = self._state.publish(message, self._desk.now)
        if target.mandatory and not published.routed:
            self._out.returned(self.number, message)
        if published.durable:
            self._desk.published(size)
        if self.confirms is not None:
            self.confirms.published(accepted=published.accepted, durable=published.durable)

    def _check_user(self, claimed: str) -> None:
        if claimed != self.user:
            text = f"user_id property set to '{claimed}' but authenticated user was '{self.user}'"
            raise Refused(Code.PRECONDITION_FAILED, text)

    def settle(self, event: Settle) -> None:
        """Take a consumer's word on its deliveries."""
        if event.kind == ACK:
            self._state.ack(self._channel, event.tag, event.bits & 1 == 1, self._desk.now)
        elif event.kind == REJECT:
            self._state.reject(self._channel, event.tag, event.bits & 1 == 1, self._desk.now)
        else:
            self._state.nack(self._channel, event.tag, event.bits & 1 == 1, event.bits & 2 == 2, self._desk.now)

    # --- everything else ----------------------------------------------------------------------

    def command(self, command: Command) -> None:
        """Do what a method asks for, and answer it."""
        handle = _HANDLERS.get(type(command.method))
        if handle is None:
            raise Refused(Code.COMMAND_INVALID, "unimplemented method")
        self._desk.deliver()
        if handle(self, command.method) and not getattr(command.method, "no_wait", False):
            self._out.ok(self.number, command.class_id, _OK_OF.get((command.class_id, command.method_id), command.method_id + 1))

    def _answer(self, asked: Any, answer: m.Method) -> None:
        if not getattr(asked, "no_wait", False):
            self._out.method(self.number, answer)

    def _named(self, queue: str) -> str:
        """An empty name means the queue that was last declared on the channel."""
        if queue:
            return queue
        if self._last_queue is None:
            raise Refused(Code.NOT_FOUND, "no previously declared queue")
        return self._last_queue

    # Handlers return whether a bare ok is the answer; else they have answered, or there is none.

    def _flow(self, method: m.Flow) -> bool:
        if not method.active:
            raise Refused(Code.NOT_IMPLEMENTED, "active=false")
        self._out.method(self.number, m.FlowOk(True))
        return False

    def _access_request(self, _method: m.AccessRequest) -> bool:
        self._out.method(self.number, m.AccessRequestOk(1))
        return False

    def _exchange_declare(self, method: m.ExchangeDeclare) -> bool:
        self._state.exchange_declare(
            method.exchange,
            method.kind,
            passive=method.passive,
            durable=method.durable,
            auto_delete=method.auto_delete,
            internal=method.internal,
            arguments=method.arguments,
        )
        return True

    def _exchange_delete(self, method: m.ExchangeDelete) -> bool:
        self._state.exchange_delete(method.exchange, if_unused=method.if_unused)
        return True

    def _exchange_bind(self, method: m.ExchangeBind) -> bool:
        self._state.exchange_bind(method.destination, method.source, method.routing_key, method.arguments)
        return True

    def _exchange_unbind(self, method: m.ExchangeUnbind) -> bool:
        self._state.exchange_unbind(method.destination, method.source, method.routing_key, method.arguments)
        return True

    def _queue_declare(self, method: m.QueueDeclare) -> bool:
        declared = self._state.queue_declare(
            self._owner,
            method.queue,
            passive=method.passive,
            durable=method.durable,
            exclusive=method.exclusive,
            auto_delete=method.auto_delete,
            arguments=method.arguments,
            now=self._desk.now,
        )
        self._last_queue = declared.name
        self._answer(method, m.QueueDeclareOk(*declared))
        return False

    def _queue_bind(self, method: m.QueueBind) -> bool:
        queue, key = self._named(method.queue), method.routing_key
        if not method.queue and not key:
            key = queue
        self._state.queue_bind(self._owner, queue, method.exchange, key, method.arguments)
        return True

    def _queue_unbind(self, method: m.QueueUnbind) -> bool:
        queue, key = self._named(method.queue), method.routing_key
        if not method.queue and not key:
            key = queue
        self._state.queue_unbind(self._owner, queue, method.exchange, key, method.arguments)
        return True

    def _queue_purge(self, method: m.QueuePurge) -> bool:
        count = self._state.queue_purge(self._owner, self._named(method.queue))
        self._answer(method, m.QueuePurgeOk(count))
        return False

    def _queue_delete(self, method: m.QueueDelete) -> bool:
        queue = self._named(method.queue)
        count = self._state.queue_delete(self._owner, queue, if_unused=method.if_unused, if_empty=method.if_empty)
        self._answer(method, m.QueueDeleteOk(count))
        return False

    def _qos(self, method: m.Qos) -> bool:
        if method.prefetch_size:
            raise Refused(Code.NOT_IMPLEMENTED, f"prefetch_size!=0 ({method.prefetch_size})")
        self._state.qos(self._channel, method.prefetch_count, method.global_, self._desk.now)
        return True

    def _consume(self, method: m.Consume) -> bool:
        if method.no_local:
            raise Refused(Code.NOT_IMPLEMENTED, "no_local=true")
        tag = self._state.consume(
            self._channel,
            self._named(method.queue),
            method.consumer_tag,
            no_ack=method.no_ack,
            exclusive=method.exclusive,
            arguments=method.arguments,
            now=self._desk.now,
        )
        self._answer(method, m.ConsumeOk(tag))
        return False

    def _cancel(self, method: m.Cancel) -> bool:
        self._state.cancel(self._channel, method.consumer_tag, self._desk.now)
        self._answer(method, m.CancelOk(method.consumer_tag))
        return False

    def _cancelled(self, _method: m.CancelOk) -> bool:
        return False

    def _get(self, method: m.Get) -> bool:
        queue = self._named(method.queue)
        found = self._state.get(self._channel, queue, no_ack=method.no_ack, now=self._desk.now)
        while found is None and self._state.awaits_content(queue) and self._desk.load():
            found = self._state.get(self._channel, queue, no_ack=method.no_ack, now=self._desk.now)
        if found is None:
            self._out.method(self.number, m.GetEmpty())
        else:
            self._out.get_ok(self.number, *found)
        return False

    def _recover(self, method: m.Recover) -> bool:
        self._state.recover(self._channel, method.requeue, self._desk.now)
        return True

    def _recover_async(self, method: m.RecoverAsync) -> bool:
        self._state.recover(self._channel, method.requeue, self._desk.now)
        return False

    def _confirm_select(self, _method: m.ConfirmSelect) -> bool:
        self.confirms = self.confirms or Confirms()
        return True

    def _transaction(self, _method: m.TxSelect | m.TxCommit | m.TxRollback) -> bool:
        raise Refused(Code.NOT_IMPLEMENTED, "transactions: use publisher confirms (confirm.select)")


#: The methods that a channel takes, besides its opening and closing and those that `inbound` reads itself.
_HANDLERS: Mapping[type[m.Method], Callable[[Conversation, Any], bool]] = {
    m.Flow: Conversation._flow,
    m.AccessRequest: Conversation._access_request,
    m.ExchangeDeclare: Conversation._exchange_declare,
    m.ExchangeDelete: Conversation._exchange_delete,
    m.ExchangeBind: Conversation._exchange_bind,
    m.ExchangeUnbind: Conversation._exchange_unbind,
    m.QueueDeclare: Conversation._queue_declare,
    m.QueueBind: Conversation._queue_bind,
    m.QueueUnbind: Conversation._queue_unbind,
    m.QueuePurge: Conversation._queue_purge,
    m.QueueDelete: Conversation._queue_delete,
    m.Qos: Conversation._qos,
    m.Consume: Conversation._consume,
    m.Cancel: Conversation._cancel,
    m.CancelOk: Conversation._cancelled,
    m.Get: Conversation._get,
    m.Recover: Conversation._recover,
    m.RecoverAsync: Conversation._recover_async,
    m.ConfirmSelect: Conversation._confirm_select,
    m.TxSelect: Conversation._transaction,
    m.TxCommit: Conversation._transaction,
    m.TxRollback: Conversation._transaction,
}

#: The answers whose number is not the next one to their method's: exchange.unbind-ok.
_OK_OF: Mapping[tuple[int, int], int] = {(40, 40): 51}
