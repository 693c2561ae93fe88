"""The files a config names that are read, or at least looked at, when it is loaded: the broker's URL and its certificates."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hopd.config.broker import too_many_urls
from hopd.config.nodes import Entry, Mapping, Scalar, Sequence, entry_at, spell
from hopd.config.places import url_problem
from hopd.errors import Problem

#: A URL is one line.
MAX_URL_BYTES = 4096
_TLS_FILES = ("ca_file", "cert_file", "key_file")


def read(path: str, limit: int) -> bytes:
    """At most one byte more than `limit`, so that a larger file shows; OSError or ValueError (a NUL) when it cannot be read."""
    with open(path, "rb") as file:
        return file.read(limit + 1)


def reason(error: OSError | ValueError) -> str:
    """Why a file cannot be read, as the end of a sentence."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def broker_files(file: str, root: Mapping, directory: str) -> tuple[str | None, list[Problem]]:
    """The URL in `url_file` if there is one, and what is wrong with the broker's section as a whole.

    This looks at what is written, not at the validated model, so that its problems come together with all others.
    """
    entry = entry_at(root, ("broker",))
    if entry is None or not isinstance(entry.value, Mapping):
        return None, []
    broker = {key: entry for key, entry in entry.value.entries.items() if not _is_null(entry)}
    secret, wrong = _secret(broker.get("url_file"), directory)
    urls = [secret] if secret is not None else list(_written_urls(broker))
    found = [*_conflict(broker), *_tls(broker.get("tls"), urls, directory)]
    if wrong:
        found.append((("url_file",), broker["url_file"], wrong))
    return secret, [
        Problem(file, entry.value.line, entry.value.column, spell(("broker", *path)), message) for path, entry, message in found
    ]


#: Where below `broker`, at which entry, and what.
_Found = tuple[tuple[str, ...], Entry, str]


def _is_null(entry: Entry) -> bool:
    return isinstance(entry.value, Scalar) and entry.value.kind == "null"


def _conflict(broker: dict[str, Entry]) -> Iterator[_Found]:
    superfluous = too_many_urls(broker)
    if superfluous:
        key, message = superfluous
        yield (key,), broker[key], message


def _secret(entry: Entry | None, directory: str) -> tuple[str | None, str]:
    """The URL, or why there is none. No message shows what the file holds."""
    if entry is None or not isinstance(entry.value, Scalar) or not entry.value.text:
        return None, ""  # none asked for, or the model says what is wrong
    try:
        data = read(os.path.join(directory, entry.value.text), MAX_URL_BYTES)
        url = data.decode().strip()
    except UnicodeDecodeError:
        return None, "the file does not hold a URL: it is not UTF-8 text"
    except (OSError, ValueError) as error:
        return None, f"cannot be read: {reason(error)}"
    if not url:
        return None, "the file is empty: it should hold the broker's URL"
    if len(data) > MAX_URL_BYTES or len(url.splitlines()) > 1:
        return None, "the file holds more than the broker's URL"
    problem = url_problem(url)
    return (None, f"what the file holds is no URL of a broker: {problem}") if problem else (url, "")


def _written_urls(broker: dict[str, Entry]) -> Iterator[str]:
    for key in ("url", "urls"):
        value = broker[key].value if key in broker else None
        for item in value.items if isinstance(value, Sequence) else (value,):
            if isinstance(item, Scalar):
                yield item.text


def _tls(entry: Entry | None, urls: list[str], directory: str) -> Iterator[_Found]:
    """Files that cannot be read; and `tls` for a URL that does not ask for it, which would go unprotected unnoticed."""
    if entry is None or not isinstance(entry.value, Mapping):
        return
    if any(url.startswith("amqp://") for url in urls or ["amqp://"]):
        yield ("tls",), entry, "tls is set, but the URL starts with amqp://: write amqps:// to use it"
    for key in _TLS_FILES:
        named = entry.value.entries.get(key)
        if named is None or _is_null(named) or not isinstance(named.value, Scalar) or not named.value.text:
            continue
        try:
            read(os.path.join(directory, named.value.text), 0)
        except (OSError, ValueError) as error:
            yield ("tls", key), named, f"cannot be read: {reason(error)}"
