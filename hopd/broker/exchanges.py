"""Where a message goes: exchanges of the five kinds, and the bindings between them and their destinations.

A destination is a queue or another exchange; this module looks at neither, it hands back what was bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from hopd.amqp.table import encode_table
from hopd.broker.arguments import type_name
from hopd.broker.model import Arguments
from hopd.broker.refusal import Code, Refused

ALTERNATE = "alternate-exchange"
_MATCH = "x-match"
_MATCHES = ("all", "any", "all-with-x", "any-with-x")

#: The headers of the message at hand, decoded only when somebody asks.
Headers = Callable[[], Mapping[Any, Any]]


class Router(Protocol):
    """The bindings of one exchange, arranged for finding."""

    def add(self, destination: Any, key: str, arguments: Arguments) -> None:
        """A binding that is not there yet."""

    def remove(self, destination: Any, key: str, arguments: Arguments) -> None:
        """A binding that is there."""

    def find(self, key: str, headers: Headers) -> Iterable[Any]:
        """The destinations of a message, some of them perhaps more than once."""


class _Tally(dict[Any, int]):
    """Destinations, and how many bindings lead to each."""

    def add(self, destination: Any) -> None:
        self[destination] = self.get(destination, 0) + 1

    def remove(self, destination: Any) -> None:
        self[destination] -= 1
        if not self[destination]:
            del self[destination]


class _Direct:
    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}

    def add(self, destination: Any, key: str, _: Arguments) -> None:
        self._tallies.setdefault(key, _Tally()).add(destination)

    def remove(self, destination: Any, key: str, _: Arguments) -> None:
        tally = self._tallies[key]
        tally.remove(destination)
        if not tally:
            del self._tallies[key]

    def find(self, key: str, _: Headers) -> Iterable[Any]:
        return self._tallies.get(key, ())


class _Fanout:
    def __init__(self) -> None:
        self._tally = _Tally()

    def add(self, destination: Any, _: str, _arguments: Arguments) -> None:
        self._tally.add(destination)

    def remove(self, destination: Any, _: str, _arguments: Arguments) -> None:
        self._tally.remove(destination)

    def find(self, _: str, _headers: Headers) -> Iterable[Any]:
        return self._tally


class _Node:
    """A word of a topic pattern, and what may follow it."""

    __slots__ = ("children", "tally")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.tally = _Tally()


class _Topic:
    """Patterns as a tree of words. All that match are found in one walk over the words of a key, however many `#` they hold."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, destination: Any, key: str, _: Arguments) -> None:
        node = self._root
        for word in _words(key):
            node = node.children.setdefault(word, _Node())
        node.tally.add(destination)

    def remove(self, destination: Any, key: str, _: Arguments) -> None:
        path = [self._root]
        words = _words(key)
        for word in words:
            path.append(path[-1].children[word])
        path[-1].tally.remove(destination)
        for word in reversed(words):
            node = path.pop()
            if node.children or node.tally:
                break
            del path[-1].children[word]

    def find(self, key: str, _: Headers) -> Iterable[Any]:
        # Each node that the words so far can lead to, and whether it is a `#`, which stays where it is at any further word.
        nodes = _through_hashes({self._root: False})
        for word in _words(key):
            following: dict[_Node, bool] = {}
            for node, is_hash in nodes.items():
                if is_hash:
                    following[node] = True
                for name in (word, "*"):
                    child = node.children.get(name)
                    if child is not None:
                        following[child] = name == "#"
            nodes = _through_hashes(following)
        return [destination for node in nodes for destination in node.tally]


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _through_hashes(nodes: dict[_Node, bool]) -> dict[_Node, bool]:
    """`nodes` and all that follow them by `#` alone, which also stands for no word."""
    waiting = list(nodes)
    while waiting:
        child = waiting.pop().children.get("#")
        if child is not None and not nodes.get(child):
            nodes[child] = True
            waiting.append(child)
    return nodes


class _HeaderMatch:
    def __init__(self) -> None:
        self._bindings: list[tuple[Any, Arguments]] = []

    def add(self, destination: Any, _: str, arguments: Arguments) -> None:
        self._bindings.append((destination, arguments))

    def remove(self, destination: Any, _: str, arguments: Arguments) -> None:
        self._bindings.remove((destination, arguments))

    def find(self, _: str, headers: Headers) -> Iterable[Any]:
        if not self._bindings:
            return ()
        present = headers()
        return [destination for destination, wanted in self._bindings if _headers_match(wanted, present)]


def _headers_match(wanted: Arguments, present: Mapping[Any, Any]) -> bool:
    """As `rabbit_exchange_type_headers`: `any` of nothing is no match, `all` of nothing is one."""
    match = wanted.get(_MATCH, "all")
    with_x = match.endswith("-with-x")
    found = (
        key in present and (value is None or _same(value, present[key]))
        for key, value in wanted.items()
        if key != _MATCH and (with_x or not str(key).startswith("x-"))
    )
    return any(found) if match.startswith("any") else all(found)


def _same(wanted: Any, value: Any) -> bool:
    return isinstance(wanted, bool) == isinstance(value, bool) and wanted == value


#: The kinds of exchange there are.
ROUTERS: dict[str, Callable[[], Router]] = {"direct": _Direct, "fanout": _Fanout, "topic": _Topic, "headers": _HeaderMatch}


class Exchange:
    """One exchange and the bindings from it."""

    def __init__(self, name: str, kind: str, *, durable: bool, auto_delete: bool, internal: bool, arguments: Arguments) -> None:
        self.name = name
        self.kind = kind
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments
        self.alternate: str | None = arguments.get(ALTERNATE)
        self.find = (router := ROUTERS[kind]()).find
        self._router = router
        # By destination: one that goes away must not cost a look at everybody else's.
        self._bindings: dict[Any, dict[tuple[str, bytes], Arguments]] = {}

    def check_binding(self, arguments: Arguments) -> None:
        """A binding with these arguments makes sense for this kind of exchange; 406 otherwise."""
        match = arguments.get(_MATCH, "all")
        if self.kind != "headers" or match in _MATCHES:
            return
        expected = "expected all, any, all-with-x, or any-with-x"
        problem = f'Invalid x-match field value <<"{match}">>; {expected}'
        if not isinstance(match, str):
            problem = f"Invalid x-match field type {type_name(match)} (value {match}); expected longstr"
        raise Refused(Code.PRECONDITION_FAILED, problem)

    def bind(self, destination: Any, key: str, arguments: Arguments) -> bool:
        """False when there is this very binding already."""
        bindings = self._bindings.setdefault(destination, {})
        identity = (key, _frozen(arguments))
        if identity in bindings:
            return False
        bindings[identity] = arguments
        self._router.add(destination, key, arguments)
        return True

    def unbind(self, destination: Any, key: str, arguments: Arguments) -> bool:
        """False when there is no such binding."""
        bindings = self._bindings.get(destination, {})
        bound = bindings.pop((key, _frozen(arguments)), None)
        if bound is None:
            return False
        self._router.remove(destination, key, bound)
        if not bindings:
            del self._bindings[destination]
        return True

    def unbind_all(self, destination: Any) -> bool:
        """End every binding to a destination that is no more; False when there was none."""
        bindings = self._bindings.pop(destination, {})
        for (key, _), arguments in bindings.items():
            self._router.remove(destination, key, arguments)
        return bool(bindings)

    @property
    def bound(self) -> bool:
        """Some binding leads away from it."""
        return bool(self._bindings)


def _frozen(arguments: Arguments) -> bytes:
    """Arguments as something to compare: their order says nothing."""
    return encode_table(dict(sorted(arguments.items(), key=repr))) if arguments else b""
