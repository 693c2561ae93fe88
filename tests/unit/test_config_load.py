"""A config file becomes settings, or a list of everything that is wrong with it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hopd.config.broker import BrokerSettings, EmbeddedSettings
from hopd.config.failure import BreakerSettings, RetrySettings
from hopd.config.load import MAX_PROBLEMS, Loaded, load
from hopd.config.model import Settings, TopicSettings
from hopd.errors import ConfigError

TOPIC = "topics:\n  emails:\n    handler: myapp.jobs:send_email\n"


def load_text(directory: Path, text: str) -> Loaded:
    file = directory / "hopd.yaml"
    file.write_text(text)
    return load(str(file), {})


def problems_of(directory: Path, text: str) -> list[str]:
    """The problems as ``line:column: path: message``."""
    with pytest.raises(ConfigError) as raised:
        load_text(directory, text)
    return [str(problem).removeprefix(f"{directory}/hopd.yaml").removeprefix(":") for problem in raised.value.problems]


def the_problem(directory: Path, text: str) -> str:
    (problem,) = problems_of(directory, text)
    return problem


def refuse_to_read(*_: object) -> bytes:
    """What a file does that is not ours to read. Root, who may run these tests, could read any."""
    raise PermissionError(13, "Permission denied")


# --- what is read -------------------------------------------------------------------------------


def test_a_topic_with_a_handler_is_a_whole_config(tmp_path: Path) -> None:
    settings = load_text(tmp_path, TOPIC).settings

    assert settings.topics["emails"].handler == "myapp.jobs:send_email"
    assert settings.broker.urls == ()
    assert settings.broker.embedded == EmbeddedSettings(listen="127.0.0.1:5672", store=None, max_memory=256 * 1024**2)


def test_a_topic_knows_its_name(tmp_path: Path) -> None:
    assert load_text(tmp_path, TOPIC).settings.topics["emails"].name == "emails"


@pytest.mark.parametrize(("concurrency", "prefetch"), [(1, 3), (10, 30), (100_000, 65_535)])
def test_prefetch_follows_from_the_concurrency(concurrency: int, prefetch: int) -> None:
    assert TopicSettings(name="a", handler="m:f", concurrency=concurrency).prefetch == prefetch


@pytest.mark.parametrize(("concurrency", "window"), [(1, 0.05), (1_000, 0.05), (10_000, 0.5), (100_000, 1.0)])
def test_the_ack_window_follows_from_the_concurrency(concurrency: int, window: float) -> None:
    assert TopicSettings(name="a", handler="m:f", concurrency=concurrency).ack_window == pytest.approx(window)


def test_a_prefetch_that_is_given_is_kept(tmp_path: Path) -> None:
    assert load_text(tmp_path, TOPIC + "    prefetch: 1\n").settings.topics["emails"].prefetch == 1


def test_topics_take_from_the_defaults_what_they_do_not_say_themselves(tmp_path: Path) -> None:
    text = (
        "defaults: {concurrency: 50, on_failure: drop}\ntopics:\n  a: {handler: m:f}\n  b: {handler: m:f, concurrency: 1, on_failure: }\n"
    )

    topics = load_text(tmp_path, text).settings.topics

    assert [(topic.concurrency, topic.prefetch, topic.on_failure) for topic in topics.values()] == [(50, 150, "drop"), (1, 3, "drop")]


@pytest.mark.parametrize(
    "section", ["broker:", "broker:\n  # url: x\n  heartbeat:", "control: ~", "defaults:", "import_path:", "logging: {level: }"]
)
def test_a_key_without_a_value_counts_as_left_out(tmp_path: Path, section: str) -> None:
    assert load_text(tmp_path, f"{section}\n{TOPIC}").settings == load_text(tmp_path, TOPIC).settings


@pytest.mark.parametrize("written", ["'0600'", "0600", "0o600", "600"])
def test_a_mode_is_octal_however_it_is_written(tmp_path: Path, written: str) -> None:
    assert load_text(tmp_path, f"control: {{mode: {written}}}\n{TOPIC}").settings.control.mode == 0o600


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90.0), ("1m30s", 90.0), ("90", 90.0), ("1.5", 1.5), ("'2m'", 120.0)])
def test_a_duration_is_float_seconds(tmp_path: Path, written: str, seconds: float) -> None:
    assert load_text(tmp_path, f"shutdown: {{grace: {written}}}\n{TOPIC}").settings.shutdown.grace == seconds


@pytest.mark.parametrize("name", ["no", "012", "12:30", "1e3", "2001-01-01", "true"])
def test_text_is_what_was_written_whatever_yaml_takes_it_for(tmp_path: Path, name: str) -> None:
    assert load_text(tmp_path, f"broker: {{connection_name: {name}}}\n{TOPIC}").settings.broker.connection_name == name


def test_queue_arguments_are_plain_values(tmp_path: Path) -> None:
    text = TOPIC + "    arguments: {x-max-length: 10, x-single-active-consumer: yes, x-overflow: drop-head, x-list: [1, {a: 'no'}]}\n"

    assert load_text(tmp_path, text).settings.topics["emails"].arguments == {
        "x-max-length": 10,
        "x-single-active-consumer": True,
        "x-overflow": "drop-head",
        "x-list": [1, {"a": "no"}],
    }


@pytest.mark.parametrize(("written", "size"), [("16MiB", 16 * 1024**2), ("1.5 kB", 1500), ("100", 100), ("none", None), ("", None)])
def test_a_size_is_whole_bytes(tmp_path: Path, written: str, size: int | None) -> None:
    assert load_text(tmp_path, f"{TOPIC}    max_body: {written}\n").settings.topics["emails"].max_body == size


@pytest.mark.parametrize("written", ["retry:", "retry: {}", "retry:\n      # max_attempts: 5\n      max: "])
def test_an_empty_retry_consists_of_its_defaults(tmp_path: Path, written: str) -> None:
    retry = load_text(tmp_path, f"{TOPIC}    {written}\n").settings.topics["emails"].retry

    assert retry == RetrySettings()
    assert (RetrySettings().max_attempts, RetrySettings().backoff, RetrySettings().on) == (8, "exponential", ("Exception",))


def test_an_empty_breaker_consists_of_its_defaults(tmp_path: Path) -> None:
    assert load_text(tmp_path, f"{TOPIC}    breaker:\n").settings.topics["emails"].breaker == BreakerSettings()


def test_without_retry_nothing_is_tried_again(tmp_path: Path) -> None:
    assert load_text(tmp_path, TOPIC).settings.topics["emails"].retry is None


def test_a_list_of_delays_is_read_as_seconds(tmp_path: Path) -> None:
    retry = load_text(tmp_path, f"{TOPIC}    retry: {{backoff: [1s, 10, 5m]}}\n").settings.topics["emails"].retry

    assert retry is not None
    assert retry.backoff == (1.0, 10.0, 300.0)


@pytest.mark.parametrize("key", ["on", "'on'"])
def test_on_is_a_key_whatever_yaml_takes_it_for(tmp_path: Path, key: str) -> None:
    text = f"{TOPIC}    retry: {{{key}: [OSError, 'shop.errors:Busy'], never: [KeyError]}}\n"
    retry = load_text(tmp_path, text).settings.topics["emails"].retry

    assert retry is not None
    assert (retry.on, retry.never) == (("OSError", "shop.errors:Busy"), ("KeyError",))


DEFAULTS = "defaults: {timeout: 30s, keep_buried: 14d, max_body: 1MiB, retry: {max_attempts: 3, max: 1m}, breaker: {failures: 2}}\n"


def test_a_topics_retry_replaces_the_default_as_a_whole(tmp_path: Path) -> None:
    text = f"{DEFAULTS}topics:\n  a: {{handler: m:f, retry: {{first: 5s}}}}\n  b: {{handler: m:f, retry: }}\n  c: {{handler: m:f}}\n"

    topics = load_text(tmp_path, text).settings.topics

    assert [topic.retry for topic in topics.values()] == [RetrySettings(first=5), RetrySettings(), RetrySettings(max_attempts=3, max=60)]


def test_none_takes_a_default_back(tmp_path: Path) -> None:
    keys = ("timeout", "keep_buried", "max_body", "retry", "breaker")

    topic = load_text(tmp_path, DEFAULTS + TOPIC + "".join(f"    {key}: none\n" for key in keys)).settings.topics["emails"]

    assert [getattr(topic, key) for key in keys] == [None] * len(keys)


@pytest.mark.parametrize(("text", "seconds"), [("none", None), ("10m", 600.0), ("", 300.0)])
def test_the_watchdog_may_be_told_never_to_leave(tmp_path: Path, text: str, seconds: float | None) -> None:
    assert load_text(tmp_path, f"watchdog:\n  exit_after: {text}\n{TOPIC}").settings.watchdog.exit_after == seconds


def test_the_state_directory_starts_at_the_file(tmp_path: Path) -> None:
    assert load_text(tmp_path, f"state_directory: state\n{TOPIC}").settings.state_directory == str(tmp_path / "state")


def test_several_urls_keep_their_order(tmp_path: Path) -> None:
    assert load_text(tmp_path, f"broker: {{urls: [amqp://b/, amqp://a/]}}\n{TOPIC}").settings.broker.urls == ("amqp://b/", "amqp://a/")


def test_relative_directories_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hopd.yaml").write_text(f"import_path: [., lib, /opt]\n{TOPIC}")
    monkeypatch.chdir(tmp_path)

    assert load("hopd.yaml", {}).settings.import_path == (str(tmp_path), str(tmp_path / "lib"), "/opt")


def test_settings_are_frozen(tmp_path: Path) -> None:
    settings = load_text(tmp_path, TOPIC).settings

    with pytest.raises(ValueError, match="frozen"):
        settings.topics["emails"].concurrency = 1


def test_settings_do_not_show_the_brokers_password() -> None:
    settings = Settings(broker=BrokerSettings(url="amqp://u:s3cret@h/"), topics={"a": TopicSettings(name="a", handler="m:f")})

    assert "s3cret" not in repr(settings)


# --- where things stand -------------------------------------------------------------------------


def test_a_key_is_found_in_the_file(tmp_path: Path) -> None:
    assert load_text(tmp_path, TOPIC).where("topics", "emails", "handler") == f"{tmp_path}/hopd.yaml:3:5"


def test_a_topics_option_is_found_in_the_defaults(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, f"{TOPIC}defaults:\n  concurrency: 5\n")

    assert loaded.where("topics", "emails", "concurrency") == f"{tmp_path}/hopd.yaml:5:3"


def test_what_the_file_does_not_have_is_found_at_the_nearest_key(tmp_path: Path) -> None:
    assert load_text(tmp_path, TOPIC).where("topics", "emails", "paused") == f"{tmp_path}/hopd.yaml:2:3"


# --- files that are none ------------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read: no such file or directory"):
        load(str(tmp_path / "nothing.yaml"), {})


def test_a_directory_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load(str(tmp_path), {})


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hopd.config.load.read", refuse_to_read)

    assert the_problem(tmp_path, TOPIC) == " cannot be read: permission denied"


def test_an_impossible_path_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load("a\0b", {})


# --- what is wrong, and what is said about it ---------------------------------------------------

WRONG = {
    "an unknown key": ("concurency: 5", "4:5: topics.emails.concurency: unknown key 'concurency'; did you mean 'concurrency'?"),
    "a key with a dash": ("ack-window: 5", "4:5: topics.emails.ack-window: unknown key 'ack-window'; did you mean 'ack_window'?"),
    "a key from elsewhere": ("heartbeat: 5s", "4:5: topics.emails.heartbeat: unknown key 'heartbeat'; it belongs in broker"),
    "a name": ("name: x", "4:5: topics.emails.name: unknown key 'name': a topic's name is the key it stands under"),
    "quoted number": ("concurrency: '5'", "expected a whole number from 1 to 100000, got '5': remove the quotes"),
    "octal number": ("concurrency: 012", "got 012: write it without leading zeros"),
    "sexagesimal number": ("concurrency: 12:30", "expected a whole number from 1 to 100000, got 12:30"),
    "exponent": ("concurrency: 1e3", "expected a whole number from 1 to 100000, got 1e3"),
    "fraction": ("concurrency: 1.5", "4:18: topics.emails.concurrency: expected a whole number"),
    "too small": ("concurrency: 0", "expected a whole number from 1 to 100000, got 0"),
    "too large": ("prefetch: 65536", "expected a whole number from 1 to 65535, got 65536"),
    "huge": (f"prefetch: {'9' * 90}", "expected a whole number from 1 to 65535, got 999"),
    "a list for a number": ("concurrency: [5]", "expected a whole number from 1 to 100000, got a list"),
    "a word for a duration": ("ack_window: soon", "expected a duration from 0s to 1s, like 30s, 5m or 250ms; got soon"),
    "too long": ("ack_window: 2s", "expected a duration from 0s to 1s, like 30s, 5m or 250ms; got 2s"),
    "a quoted truth": ("paused: 'no'", "expected true or false, got 'no': remove the quotes"),
    "a word for a truth": ("paused: maybe", "expected true or false, got maybe"),
    "not a choice": ("on_failure: Bury", "expected one of bury, requeue, drop; got Bury; did you mean bury?"),
    "transient quorum": ("queue_type: quorum\n    durable: false", "5:14: topics.emails.durable: a quorum queue is always durable"),
    "arguments as a list": ("arguments: [a]", "expected keys and values, got a list"),
    "the type as argument": ("arguments: {x-queue-type: quorum}", "4:17: topics.emails.arguments.x-queue-type: set queue_type"),
    "exponent argument": ("arguments: {a: 1e3}", "4:20: topics.emails.arguments.a: expected text, a whole number, true or false, got 1e3"),
    "octal argument": ("arguments: {a: 012}", "got 012, which YAML reads as another number than it looks like"),
    "sexagesimal argument": ("arguments: {a: 12:30}", "got 12:30, which YAML reads as another number than it looks like"),
    "date argument": ("arguments: {a: 2001-01-01}", "got 2001-01-01, which YAML reads as a date: quote it"),
    "fraction argument": ("arguments: {a: 1.5}", "got 1.5, which YAML reads as a fraction"),
    "infinite argument": ("arguments: {a: .inf}", "got .inf, which YAML reads as a fraction"),
    "argument of 65 bits": ("arguments: {a: 9223372036854775808}", "which YAML reads as another number than it looks like, or none"),
    "an endless timeout": ("timeout: never", "4:14: topics.emails.timeout: expected none or a duration from 100ms to 30d"),
    "no time at all": ("timeout: 0", "expected none or a duration from 100ms to 30d, like 30s, 5m or 250ms; got 0"),
    "kept longer than RabbitMQ can": ("keep_buried: 50d", "expected none or a duration from 1s to 49d"),
    "a number for a size": ("max_body: 16M", "4:15: topics.emails.max_body: expected none or a size from 1B to 1.0GiB, like 16MiB"),
    "a fraction for a size": ("max_body: 1.5", "expected none or a size from 1B to 1.0GiB"),
    "a list for a size": ("max_body: [1]", "got a list"),
    "quoted bytes": ("max_body: '100'", "expected none or a size from 1B to 1.0GiB"),
    "not an executor": ("executor: threads", "expected one of greenlet, thread; got threads"),
    "a truth for a section": ("retry: yes", "4:12: topics.emails.retry: expected keys and values, got yes"),
    "an unknown key of retry": ("retry: {frist: 1s}", "4:13: topics.emails.retry.frist: unknown key 'frist'; did you mean 'first'?"),
    "a key of retry outside": ("backoff: fixed", "unknown key 'backoff'; it belongs in defaults.retry or topics.NAME.retry"),
    "an unknown back-off": ("retry: {backoff: linear}", "expected one of exponential, fixed, or a list like [1s, 10s, 5m]; got linear"),
    "no delays": ("retry: {backoff: []}", "4:22: topics.emails.retry.backoff: expected at least one delay"),
    "a delay that is none": ("retry: {backoff: [1s, soon]}", "4:27: topics.emails.retry.backoff[1]: expected a duration from 100ms to 30d"),
    "a delay beyond the maximum": ("retry: {backoff: [1s, 2h]}", "4:27: topics.emails.retry.backoff[1]: is longer than max, which is 1h"),
    "a first beside a list": ("retry: {first: 1s, backoff: [1s]}", "4:20: topics.emails.retry.first: has no meaning where backoff is"),
    "a first beyond the maximum": ("retry: {first: 2h}", "4:20: topics.emails.retry.first: is longer than max, which is 1h"),
    "a maximum below the first": ("retry: {max: 500ms}", "4:18: topics.emails.retry.max: is shorter than first, which is 1s"),
    "no attempt": ("retry: {max_attempts: 0}", "expected a whole number from 1 to 10000, got 0"),
    "one exception for a list": ("retry: {on: KeyError}", "4:17: topics.emails.retry.on: expected a list, like [first, second]"),
    "no exceptions": ("retry: {on: []}", "4:17: topics.emails.retry.on: expected at least one exception"),
    "a misspelt exception": ("retry: {never: [KeyErorr]}", "4:21: topics.emails.retry.never[0]: expected a built-in exception or"),
    "an exception nearly right": ("retry: {never: [KeyErorr]}", "got KeyErorr; did you mean KeyError?"),
    "a dotted exception": ("retry: {on: [shop.errors.Busy]}", "got shop.errors.Busy; did you mean shop.errors:Busy?"),
    "what is no exception": ("retry: {on: [len]}", "expected a built-in exception or package.module:name, got len"),
    "a number for an exception": ("retry: {on: [[]]}", "expected a built-in exception or package.module:name, got a list"),
    "a breaker that never opens": ("breaker: {failures: 0}", "4:25: topics.emails.breaker.failures: expected a whole number"),
    "empty argument": ("arguments: {a: }", "expected text, a whole number, true or false, got nothing"),
}


@pytest.mark.parametrize(("lines", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_topic_is_said_where_it_stands(tmp_path: Path, lines: str, problem: str) -> None:
    assert problem in the_problem(tmp_path, f"{TOPIC}    {lines}\n")


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("topic: {}", "1:1: topic: unknown key 'topic'; did you mean 'topics'?"),
        ("concurrency: 5", "1:1: concurrency: unknown key 'concurrency'; it belongs in defaults or topics.NAME"),
        ("zzz:", "known here: broker, control, defaults, import_path, logging, shutdown, state_directory, topics, watchdog"),
        ("broker: amqp://u:s3cret@h/", "1:9: broker: expected keys and values, got a single value"),
        ("broker: {exchange: ''}", "broker.exchange: expected text, got an empty one"),
        ("broker: {heartbeat: 0}", "broker.heartbeat: expected a duration from 1s to 1h"),
        ("broker: {heartbeat: 1500ms}", "broker.heartbeat: expected whole seconds, got 1500ms"),
        ("broker: {urls: []}", "broker.urls: expected at least one URL"),
        ("broker: {urls: amqp://u:s3cret@h/}", "broker.urls: expected a list, like [first, second], got a single value"),
        ("broker: {urls: [amqp://a/, http://b/]}", "1:28: broker.urls[1]: a broker's URL starts with amqp:// or amqps://"),
        ("broker: {url: amqp://a/, urls: [amqp://b/]}", "url and urls are given, but only one of url, urls, url_file and embedded"),
        ("broker: {url: amqp://a/, embedded: {}}", "1:36: broker.embedded: url and embedded are given, but only one of"),
        ("broker: {embedded: {listen: 0.0.0.0:5672}}", "the embedded broker knows no users and no TLS, so it serves one machine"),
        ("broker: {embedded: {listen: rabbit:5672}}", "got rabbit:5672: the host is an address, like 127.0.0.1 or [::1]"),
        (
            "broker: {embedded: {listen: 5672}}",
            "broker.embedded.listen: expected an address of this machine alone, like 127.0.0.1:5672, got 5672",
        ),
        ("broker: {embedded: {listen: '127.0.0.1:99999'}}", "the port is a number from 0 to 65535"),
        ("broker: {embedded: {max_memory: 1kB}}", "broker.embedded.max_memory: expected a size from 1.0MiB to 1024.0GiB"),
        ("broker: {embedded: {stor: x}}", "1:21: broker.embedded.stor: unknown key 'stor'; did you mean 'store'?"),
        ("control: {mode: 0770}", "control.mode: expected a mode of read and write bits"),
        ("control: {mode: 0060}", "control.mode: expected a mode that lets the owner read and write"),
        ("control: {mode: rw}", 'control.mode: expected a file mode like "0660", got rw'),
        ("logging: {level: loud}", "logging.level: expected one of debug, info, warning, error; got loud"),
        ("logging: {file: [a]}", "logging.file: expected text, got a list"),
        ("watchdog: {report_after: 10ms}", "watchdog.report_after: expected a duration from 100ms to 1h"),
        ("watchdog: {exit_after: 10ms}", "watchdog.exit_after: expected none or a duration from 1s to 1d"),
        ("watchdog: {report_after: none}", "watchdog.report_after: expected a duration"),
        ("watchdog: {report_after: 1m, exit_after: 1m}", "1:42: watchdog.exit_after: hopd would leave (exit_after, 1m) before"),
        ("watchdog: {report_after: 10m}", "1:26: watchdog.report_after: hopd would leave (exit_after, 5m) before"),
        ("import_path: .", "1:14: import_path: expected a list, like [first, second], got ."),
        ("defaults: {handler: m:f}", "1:12: defaults.handler: unknown key 'handler'; it belongs in topics.NAME"),
        ("defaults: {concurrency: 0}", "1:25: defaults.concurrency: expected a whole number from 1 to 100000, got 0"),
        ("defaults: 5", "1:11: defaults: expected keys and values, got 5"),
    ],
)
def test_what_is_wrong_with_a_section_is_said_where_it_stands(tmp_path: Path, section: str, problem: str) -> None:
    assert problem in the_problem(tmp_path, f"{section}\n{TOPIC}")


@pytest.mark.parametrize(
    ("topic", "problem"),
    [
        ("emails:", "2:3: topics.emails.handler: has no handler: set handler: package.module:name"),
        ("emails: {handler: }", "topics.emails.handler: has no handler"),
        ("emails: {handler: myapp.jobs.send}", "expected package.module:name, got myapp.jobs.send; did you mean myapp.jobs:send?"),
        ("emails: {handler: 'a b:c'}", "2:21: topics.emails.handler: expected package.module:name, got 'a b:c'"),
        ("emails: {handler: [a]}", "expected package.module:name, got a list"),
        ("emails: myapp.jobs:send", "2:11: topics.emails: expected keys and values, got myapp.jobs:send"),
        ("amq.x: {handler: m:f}", "2:3: topics.\"amq.x\": names that start with 'amq.' are reserved"),
        ("'': {handler: m:f}", "a topic's name cannot be empty"),
    ],
)
def test_what_is_no_topic_is_said_where_it_stands(tmp_path: Path, topic: str, problem: str) -> None:
    assert problem in the_problem(tmp_path, f"topics:\n  {topic}\n")


@pytest.mark.parametrize("text", ["broker: {}\n", "topics:\n", "topics: {}\n"])
def test_a_config_without_topics_is_shown_one(tmp_path: Path, text: str) -> None:
    assert "at least one topic is needed:   topics: {emails: {handler: myapp.jobs:send_email}}" in the_problem(tmp_path, text)


def test_topics_as_a_list_are_refused(tmp_path: Path) -> None:
    assert the_problem(tmp_path, "topics: [emails]\n") == "1:9: topics: expected keys and values, got a list"


def test_all_problems_come_at_once_and_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
logging: {level: loud}
broker: {url: http://x, urls: [amqp://y/], exchnge: x}
topics:
  a: {handler: m.f, durable: no, queue_type: quorum, concurrency: 0}
  a: {}
  no: {}
  b: {handler: '${NOT_SET}', arguments: {a: 1e3, x-queue-type: x}, paused: 2001-99-99}
"""

    problems = problems_of(tmp_path, text)

    assert [problem.split(": ")[:2] for problem in problems] == [
        ["1:18", "logging.level"],
        ["2:15", "broker.url"],
        ["2:31", "broker.urls"],
        ["2:44", "broker.exchnge"],
        ["4:16", "topics.a.handler"],
        ["4:30", "topics.a.durable"],
        ["4:67", "topics.a.concurrency"],
        ["5:3", "topics"],
        ["6:3", "topics"],
        ["7:16", "topics.b.handler"],
        ["7:45", "topics.b.arguments.a"],
        ["7:50", "topics.b.arguments.x-queue-type"],
        ["7:76", "topics.b.paused"],
    ]


def test_what_is_wrong_with_the_defaults_is_said_once_and_not_for_every_topic(tmp_path: Path) -> None:
    topics = "".join(f"  t{n}: {{handler: m:f}}\n" for n in range(5))

    assert the_problem(tmp_path, f"defaults: {{concurrency: -1}}\ntopics:\n{topics}").startswith("1:25: defaults.concurrency")


def test_what_is_wrong_with_a_default_retry_is_said_once_and_there(tmp_path: Path) -> None:
    text = f"defaults: {{retry: {{first: 2h}}}}\n{TOPIC}  b: {{handler: m:f}}\n"

    assert the_problem(tmp_path, text) == "1:27: defaults.retry.first: is longer than max, which is 1h"


def test_a_topic_that_contradicts_the_defaults_is_refused(tmp_path: Path) -> None:
    text = f"defaults: {{durable: false}}\n{TOPIC}    queue_type: quorum\n"

    assert the_problem(tmp_path, text).startswith("1:21: topics.emails.durable: a quorum queue is always durable")


def test_countless_problems_are_counted(tmp_path: Path) -> None:
    text = "topics:\n" + "".join(f"  t{n}: {{}}\n" for n in range(MAX_PROBLEMS + 7))

    assert problems_of(tmp_path, text)[MAX_PROBLEMS:] == [" 7 more problems"]


@pytest.mark.parametrize(
    "broker",
    ["{url: 'amqp://user:s3cret#x@host/'}", "{url: http://user:s3cret@h/}", "{exchange: [amqp://u:s3cret@h/]}", "{amqp://u:s3cret@h/}",
     "{heartbeat: amqp://u:s3cret@h/}", "{url: [amqp://u:s3cret@h/]}", "[amqp://u:s3cret@h/]", "{tls: amqp://u:s3cret@h/}"],
)  # fmt: skip
def test_no_message_shows_a_password(tmp_path: Path, broker: str) -> None:
    assert "s3cret" not in the_problem(tmp_path, f"broker: {broker}\n{TOPIC}")


@pytest.mark.parametrize(
    "url",
    ["amqp://", "amqp:///vhost", "amqp:host", "amqp://h:0/", "amqp://h:65536/", "amqp://h:x/", "amqp://u:a/b@h/", "amqp://u:1/b@h/", "amqp://u:a#b@h/",
     "amqp://u:a?b@h/", "amqp://[::1/", "http://h/", "h:5672", "amqp://a b/", "amqp://a\\tb/"],
)  # fmt: skip
def test_what_is_no_brokers_url_is_refused(tmp_path: Path, url: str) -> None:
    assert ": broker.url: " in the_problem(tmp_path, f'broker: {{url: "{url}"}}\n{TOPIC}')


@pytest.mark.parametrize("url", ["amqp://h", "amqps://u:p%2F@h:5671/v%2Fhost", "amqp://[::1]:5672/", "amqp://u@h/?heartbeat=5"])
def test_a_brokers_url_is_kept_as_it_is(tmp_path: Path, url: str) -> None:
    assert load_text(tmp_path, f'broker: {{url: "{url}"}}\n{TOPIC}').settings.broker.urls == (url,)


def test_a_thousand_topics_load_in_under_a_second(tmp_path: Path) -> None:
    topics = "".join(
        f"  t{n}:\n    handler: myapp.jobs:send\n    concurrency: {n + 1}\n    ack_window: 20ms\n    paused: no\n" for n in range(1000)
    )
    started = time.process_time()

    loaded = load_text(tmp_path, f"topics:\n{topics}")

    assert len(loaded.settings.topics) == 1000
    assert time.process_time() - started < 1.0


# --- files that the config names ----------------------------------------------------------------


def test_the_url_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("amqp://u:p@h/\n")

    assert load_text(tmp_path, f"broker: {{url_file: secret}}\n{TOPIC}").settings.broker.urls == ("amqp://u:p@h/",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"s3cret", "what the file holds is no URL of a broker"),
        (b"amqp://u:s3cret@h/\namqp://u:s3cret@h2/\n", "the file holds more than the broker's URL"),
        (b"amqp://u:s3cret\xff@h/", "it is not UTF-8 text"),
        (b"amqp://" + b"s3cret" * 1000, "the file holds more than the broker's URL"),
    ],
)
def test_what_is_no_url_in_a_file_is_refused_unseen(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "secret").write_bytes(content)

    problem = the_problem(tmp_path, f"broker:\n  url_file: secret\n{TOPIC}")

    assert problem.startswith("2:13: broker.url_file: ")
    assert reason in problem
    assert "s3cret" not in problem


def test_a_secret_file_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    assert the_problem(tmp_path, f"broker:\n  url_file: secret\n{TOPIC}") == (
        "2:13: broker.url_file: cannot be read: no such file or directory"
    )


def test_a_secret_file_that_is_not_ours_to_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hopd.config.files.read", refuse_to_read)

    assert "cannot be read: permission denied" in the_problem(tmp_path, f"broker: {{url_file: secret}}\n{TOPIC}")


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    text = f"broker:\n  url: amqps://h/\n  tls: {{ca_file: ca.pem, key_file: k.pem}}\n{TOPIC}"

    assert [problem.split(": ", 2)[1:] for problem in problems_of(tmp_path, text)] == [
        ["broker.tls.ca_file", "cannot be read: no such file or directory"],
        ["broker.tls.key_file", "this is the key of cert_file, which is not set"],
    ]


def test_tls_for_a_url_that_does_not_ask_for_it_is_refused(tmp_path: Path) -> None:
    problem = the_problem(tmp_path, f"broker: {{url: amqp://h/, tls: {{server_name: x}}}}\n{TOPIC}")

    assert "tls is set, but the URL starts with amqp://" in problem
