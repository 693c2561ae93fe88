"""One client's connection as pure code: bytes in, bytes out; no socket, no clock, no thread."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from enum import Enum

from hopd.amqp.frames import HEARTBEAT
from hopd.broker import methods as m
from hopd.broker.conversation import Conversation
from hopd.broker.desk import Desk
from hopd.broker.handshake import PROTOCOL, Handshake, LoginRefused
from hopd.broker.inbound import BASIC, PUBLISH, Command, Deaf, Event, Held, Inbound, Publish, Settle, TooLarge
from hopd.broker.model import Cancelled, ChannelInfo, CloseChannel, Deliver
from hopd.broker.outbound import Outbound
from hopd.broker.refusal import Code, Refused

LOGGER = logging.getLogger(__name__)

CHANNEL = 20


class Phase(Enum):
    """Where a connection is; it moves downwards only."""

    #: Its first eight bytes are to come.
    GREETING = "greeting"
    #: Who it is, and what is agreed on.
    HANDSHAKE = "handshake"
    #: In use.
    OPEN = "open"
    #: The broker has closed it; its client's close-ok is to come.
    CLOSING = "closing"
    #: Nothing is to come; what is to be sent still is.
    CLOSED = "closed"


class Session:
    """A client. Its duties:

    1. the handshake, and who may come in;
    2. channels: give each event to its conversation, close the one that did wrong;
    3. what is no channel's business: closing, blocking, and that no error of one client, or of ours, reaches another.

    Nothing is raised from here. Whoever owns it writes what `take_output` gives, and ends the stream when it is `over`.
    """

    def __init__(self, desk: Desk, peer: str) -> None:
        self.phase = Phase.GREETING
        self.peer = peer
        self.handshake = Handshake(desk.users)
        #: It has published: when the broker is short of something it is not read.
        self.publishes = False
        self._desk = desk
        self._greeting = b""
        self._inbound = Inbound()
        self._out = Outbound(self._inbound.frame_max)
        self._conversations: dict[int, Conversation] = {}
        #: Channels that the broker has closed and whose client has not said that it knows.
        self._closing: set[int] = set()
        #: What it said when it published while the broker was short of something.
        self._held: Held | None = None
        #: Channels with messages that are not confirmed yet.
        self._confirming: dict[Conversation, None] = {}
        self._connected = False

    @property
    def label(self) -> str:
        """What finds the client in a log: the name it gave itself, and where it comes from."""
        return f"{self.handshake.name} ({self.peer})" if self.handshake.name else self.peer

    @property
    def over(self) -> bool:
        """Whether nothing is to come; what is to be sent still is."""
        return self.phase is Phase.CLOSED

    @property
    def kept_waiting(self) -> bool:
        """Whether a message of its is held up, or not confirmed yet."""
        return self._held is not None or bool(self._confirming)

    @property
    def heartbeat(self) -> int:
        """Seconds between heartbeats; 0: none, or not agreed on yet."""
        return self.handshake.heartbeat

    # --- bytes in -----------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the client sent."""
        if self.over:
            return
        self._desk.touched[self] = None
        if self._held is not None:
            self._held.behind += data
            return
        if self.phase is Phase.GREETING:
            data = self._greet(data)
        self._hear(self._inbound.feed(data))

    def _hear(self, events: Iterator[Event]) -> None:
        try:
            for event in events:
                if self._desk.shortage is not None and isinstance(event, Publish):
                    self._held = Held(event, events)
                    self.publishes = True
                    return
                self._take(event)
                if self.over:
                    return
        except Refused as refused:
            self._inbound = Deaf()  # where the next frame begins is anybody's guess
            self.close(refused)

    def resume(self) -> None:
        """The broker is short of nothing any more: do what was held up."""
        held, self._held = self._held, None
        if held is not None:
            self._desk.touched[self] = None
            self._hear(itertools.chain((held.event,), held.events, self._inbound.feed(held.behind)))

    def _greet(self, data: bytes) -> bytes:
        """Wait for the protocol header; what is behind it."""
        data = self._greeting + data
        if len(data) < len(PROTOCOL):
            self._greeting = data
            return b""
        if not data.startswith(PROTOCOL):
            # By the book (§2.2.4): say what would be understood, and hang up.
            self._out.raw(PROTOCOL)
            self._end()
            return b""
        self.phase = Phase.HANDSHAKE
        self._out.method(0, self.handshake.start())
        return data[len(PROTOCOL) :]

    def _take(self, event: Event) -> None:
        """One event, and whatever is wrong with it or with us."""
        try:
            if isinstance(event, Publish):
                self._publish(event)
            elif isinstance(event, Settle):
                self._settle(event)
            else:
                self._take_rare(event)
        except Refused as refused:
            self.close(refused)
        except Exception as error:
            LOGGER.exception("The connection of %s is closed for an error of the broker's", self.label, extra={"event": "session_failed"})
            self.close(Refused(Code.INTERNAL_ERROR, f"{type(error).__name__} in the broker, whose log has more"))

    def _publish(self, event: Publish) -> None:
        conversation = self._conversations.get(event.channel)
        if conversation is None:
            self._refuse_unopened(event.channel, BASIC, PUBLISH)
            return
        self.publishes = True
        try:
            conversation.publish(event)
        except Refused as refused:
            self._refuse(conversation, refused, BASIC, PUBLISH)
        else:
            if conversation.confirms is not None:
                self._confirming[conversation] = None

    def _settle(self, event: Settle) -> None:
        conversation = self._conversations.get(event.channel)
        if conversation is None:
            self._refuse_unopened(event.channel, BASIC, event.kind)
            return
        try:
            conversation.settle(event)
        except Refused as refused:
            self._refuse(conversation, refused, BASIC, event.kind)

    def _take_rare(self, event: Command | TooLarge) -> None:
        conversation = self._conversations.get(event.channel)
        if isinstance(event, TooLarge):
            if conversation is not None:
                self._refuse(conversation, event.refused, BASIC, PUBLISH)
        elif event.channel == 0:
            self._connection(event)
        elif event.class_id == CHANNEL and type(event.method) in (m.ChannelOpen, m.ChannelClose, m.ChannelCloseOk):
            self._channel(event, conversation)
        elif conversation is None:
            self._refuse_unopened(event.channel, event.class_id, event.method_id)
        else:
            try:
                conversation.command(event)
            except Refused as refused:
                self._refuse(conversation, refused, event.class_id, event.method_id)

    # --- errors -------------------------------------------------------------------------------

    def _refuse_unopened(self, channel: int, class_id: int, method_id: int) -> None:
        """Something came on a channel that is not open. What was on its way when the broker closed the connection is passed over."""
        if self.phase is Phase.CLOSING:
            return
        if self.phase is not Phase.OPEN:
            raise Refused(Code.UNEXPECTED_FRAME, f"channel {channel} is used before the connection is open", class_id, method_id)
        text = "expected 'channel.open'" if channel else "unexpected method in connection state running"
        raise Refused(Code.CHANNEL_ERROR, text, class_id, method_id)

    def _refuse(self, conversation: Conversation, refused: Refused, class_id: int, method_id: int) -> None:
        """The channel, or the connection, ends for what that method asked."""
        if not refused.class_id:
            refused.class_id, refused.method_id = class_id, method_id
        if refused.hard:
            raise refused
        self._desk.deliver()
        self._tell_confirms(conversation)
        conversation.close()
        self._close_channel(conversation.number, refused)

    def _close_channel(self, number: int, refused: Refused) -> None:
        """Tell the client that its channel is closed; what it sends on it until it knows is dropped."""
        # To ask for what may not be there is how clients look whether it is: no news.
        level = logging.DEBUG if refused.code == Code.NOT_FOUND else logging.INFO
        extra = {"event": "channel_refused", "code": int(refused.code)}
        LOGGER.log(level, "Closed channel %d of %s: %s", number, self.label, refused, extra=extra)
        self._forget(number)
        self._closing.add(number)
        self._inbound.ignore(number)
        self._out.method(number, m.ChannelClose(refused.code, refused.text, refused.class_id, refused.method_id))

    def _forget(self, number: int) -> None:
        conversation = self._conversations.pop(number, None)
        if conversation is not None:
            self._confirming.pop(conversation, None)

    # --- the connection and its channels ------------------------------------------------------

    def _connection(self, event: Command) -> None:
        method = event.method
        if isinstance(method, m.Close):
            self.lost()
            self._end(m.CloseOk())
        elif self.phase is Phase.CLOSING:
            if isinstance(method, m.CloseOk):
                self._end()
        elif self.phase is Phase.HANDSHAKE:
            self._shake_hands(event)
        elif isinstance(method, m.UpdateSecret):
            self._out.method(0, m.UpdateSecretOk())
        else:
            self._refuse_unopened(0, event.class_id, event.method_id)

    def _shake_hands(self, event: Command) -> None:
        try:
            answer = self.handshake.take(event.method)
        except LoginRefused as refused:
            LOGGER.warning("Refused a login as %r from %s", refused.user, self.peer, extra={"event": "login_refused", "peer": self.peer})
            self._end(refused.close)
            return
        except Refused as refused:
            refused.class_id, refused.method_id = event.class_id, event.method_id
            raise
        self._inbound.frame_max = self._out.frame_max = self.handshake.frame_max
        if answer is not None:
            self._out.method(0, answer)
        if self.handshake.done:
            self.phase = Phase.OPEN
            self._desk.state.connected(self)
            self._connected = True

    def _channel(self, event: Command, conversation: Conversation | None) -> None:
        number, method = event.channel, event.method
        if isinstance(method, m.ChannelCloseOk) and number in self._closing:
            self._closing.remove(number)
            self._inbound.heed(number)
        elif isinstance(method, m.ChannelClose) and number in self._closing:
            self._out.method(number, m.ChannelCloseOk())
        elif isinstance(method, m.ChannelOpen) and self.phase is Phase.OPEN:
            self._open_channel(event, conversation)
        elif conversation is None:
            self._refuse_unopened(number, event.class_id, event.method_id)
        elif isinstance(method, m.ChannelClose):
            self._desk.deliver()
            conversation.close()
            self._forget(number)
            self._out.method(number, m.ChannelCloseOk())
        else:
            raise Refused(Code.COMMAND_INVALID, "unimplemented method", event.class_id, event.method_id)

    def _open_channel(self, event: Command, conversation: Conversation | None) -> None:
        number, most = event.channel, self.handshake.channel_max
        if conversation is not None:
            raise Refused(Code.CHANNEL_ERROR, "second 'channel.open' seen", event.class_id, event.method_id)
        if len(self._conversations) + len(self._closing) >= most:
            raise Refused(Code.NOT_ALLOWED, f"number of channels opened ({most}) has reached the negotiated channel_max ({most})")
        self._conversations[number] = Conversation(self._desk, self, number, self.handshake.user, self._out)
        self._out.method(number, m.ChannelOpenOk())

    # --- what the broker has to say -----------------------------------------------------------

    def deliver(self, effect: Deliver) -> None:
        """A message for one of its consumers."""
        if effect.channel.number in self._conversations:
            self._out.deliver(effect.channel.number, effect)

    def tell(self, effect: Cancelled | CloseChannel) -> None:
        """The broker has ended a consumer or a channel."""
        number = effect.channel.number
        if number not in self._conversations:
            return
        if isinstance(effect, CloseChannel):
            self._close_channel(number, effect.refused)
        elif "consumer_cancel_notify" in self.handshake.capabilities:
            self._out.method(number, m.Cancel(effect.consumer_tag, True))

    def channels(self) -> list[ChannelInfo]:
        """Its open channels."""
        name = self.handshake.name
        return [ChannelInfo(name, conversation.serial, conversation.consumers) for conversation in self._conversations.values()]

    def close_channel(self, serial: int, refused: Refused) -> None:
        """Close one of them, for a reason of the broker's own. One that is not there is closed."""
        for conversation in list(self._conversations.values()):
            if conversation.serial == serial:
                self._refuse(conversation, refused, 0, 0)
                self._desk.touched[self] = None

    def block(self, reason: str | None) -> None:
        """The broker stops reading this client, for a reason, or (None) goes on."""
        if self.phase is Phase.OPEN and "connection.blocked" in self.handshake.capabilities:
            self._out.method(0, m.Unblocked() if reason is None else m.Blocked(reason))
            self._desk.touched[self] = None

    def beat(self) -> None:
        """Say that the broker is there."""
        self._out.raw(HEARTBEAT)
        self._desk.touched[self] = None

    def close(self, refused: Refused) -> None:
        """The broker ends the connection; its client is told why."""
        if self.phase in (Phase.CLOSING, Phase.CLOSED):
            return
        if refused.code is not Code.CONNECTION_FORCED:
            extra = {"event": "connection_refused", "code": int(refused.code)}
            LOGGER.warning("Closed the connection of %s: %s", self.label, refused, extra=extra)
        for conversation in list(self._confirming):
            self._tell_confirms(conversation)
        if self._held is not None:
            self._inbound = Deaf()
        self.lost()
        self._out.method(0, m.Close(refused.code, refused.text, refused.class_id, refused.method_id))
        self.phase = Phase.CLOSING
        self._desk.touched[self] = None

    def lost(self) -> None:
        """The client is not there any more, or will not be: the broker takes back what it had. Again does nothing."""
        self._held = None
        self._conversations.clear()
        self._closing.clear()
        self._confirming.clear()
        self._desk.waiting.pop(self, None)
        if not self._connected:
            return
        self._connected = False
        try:
            self._desk.state.disconnected(self, self._desk.now)
        except Exception:
            LOGGER.exception("What %s had could not all be taken back", self.label, extra={"event": "session_failed"})

    def _end(self, last: m.Method | None = None) -> None:
        if last is not None:
            self._out.method(0, last)
        self.phase = Phase.CLOSED

    # --- bytes out ----------------------------------------------------------------------------

    def take_output(self) -> bytes:
        """What is to be sent now, confirms included."""
        for conversation in list(self._confirming):
            self._tell_confirms(conversation)
        if self._confirming:
            self._desk.waiting[self] = None
        else:
            self._desk.waiting.pop(self, None)
        return self._out.take()

    def wrote(self) -> None:
        """The client has taken everything that was sent so far, and can be sent more."""
        if self._connected:
            self._desk.state.wrote(self, self._desk.now)

    def _tell_confirms(self, conversation: Conversation) -> None:
        confirms = conversation.confirms
        if confirms is None:
            return
        confirms.seal(self._desk.batch)
        for confirm in confirms.take(self._desk.committed):
            self._out.confirm(conversation.number, *confirm)
        if not confirms.waiting:
            self._confirming.pop(conversation, None)
