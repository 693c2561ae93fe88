"""From ``package.module:name`` to a callable that takes a job, or to an exception's class; or why there is none.

`LOADERS` do it in this process, for a daemon that is about to run; handler_check.py does it in a child
process, because importing somebody's code may hang, leave or crash.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from types import FunctionType, ModuleType
from typing import Any

from hopd.config.retry import describe
from hopd.errors import HandlerError


def add_import_path(directories: Iterable[str]) -> None:
    """Put the config's `import_path` before everything else that Python searches, in its order."""
    wanted = list(directories)
    sys.path[:] = wanted + [directory for directory in sys.path if directory not in wanted]
    importlib.invalidate_caches()


def load_handler(spec: str) -> Callable[[Any], object]:
    """The callable that `spec` names, ready to be called with a job. A class is instantiated once, without arguments, and the instance is
    called. `HandlerError` says what is wrong, whatever the module did when it was imported; the caller knows where the spec stands.
    """
    module, _, attribute = spec.partition(":")
    target = _attribute(_import(module), attribute)
    if inspect.isclass(target):
        target = _instance(target)
    _refuse_what_does_not_run(target)
    _refuse_wrong_arity(target)
    handler: Callable[[Any], object] = target
    return handler


def load_error(spec: str) -> type[BaseException]:
    """The exception that `spec` stands for, ``package.module:name`` or the name of a built-in one; `HandlerError` as above."""
    module, _, attribute = spec.rpartition(":")
    target = _attribute(_import(module or "builtins"), attribute)
    if not (inspect.isclass(target) and issubclass(target, BaseException)):
        what = "the class" if inspect.isclass(target) else f"an object of type {type(target).__name__}:"
        raise HandlerError(f"expected an exception, got {what} {attribute}")
    return target


#: How each kind of name is loaded. The error says only what is wrong, not where.
LOADERS: dict[str, Callable[[str], object]] = {"handler": load_handler, "error": load_error}


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise HandlerError(f"there is no module {missing}: is it installed, or its directory in import_path?") from error
        raise HandlerError(_failed(f"importing {name}", error)) from error


def _attribute(module: ModuleType, path: str) -> Any:
    owner: Any = None
    found: Any = module
    at = module.__name__
    for name in path.split("."):
        try:
            owner, found = found, getattr(found, name)
        except AttributeError as error:
            close = difflib.get_close_matches(name, [known for known in dir(found) if not known.startswith("_")], n=1)
            raise HandlerError(f"{at} has no {name}" + (f"; did you mean {close[0]}?" if close else "")) from error
        except BaseException as error:
            raise HandlerError(_failed(f"looking up {name} in {at}", error)) from error
        at = f"{at}.{name}"
    if inspect.isclass(owner) and isinstance(inspect.getattr_static(owner, name, None), FunctionType):
        raise HandlerError(f"{name} is a method without its object: name an instance of {owner.__name__} that the module holds")
    return found


def _instance(cls: type) -> Any:
    signature = _signature(cls)
    if signature is not None:
        try:
            signature.bind()
        except TypeError as error:
            raise HandlerError(f"an instance of {cls.__name__} is made without arguments, but takes {signature} ({error})") from error
    try:
        return cls()
    except BaseException as error:
        raise HandlerError(_failed(f"making an instance of {cls.__name__}", error)) from error


def _refuse_what_does_not_run(target: Any) -> None:
    if not callable(target):
        kind = "a module" if isinstance(target, ModuleType) else f"an object of type {type(target).__name__}"
        raise HandlerError(f"{kind} is not callable")
    function = target.func if isinstance(target, functools.partial) else target
    for candidate in (function, type(function).__call__):
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise HandlerError("is async, and calling it would run nothing: write an ordinary function")
        if inspect.isgeneratorfunction(candidate):
            raise HandlerError("has a yield, and calling it would run nothing: write an ordinary function")


def _refuse_wrong_arity(target: Callable[..., object]) -> None:
    signature = _signature(target)
    if signature is None:
        return
    try:
        signature.bind(object())
    except TypeError as error:
        raise HandlerError(f"is called with one argument, the job, but takes {signature} ({error})") from error


def _signature(target: Callable[..., object]) -> inspect.Signature | None:
    """None for what is written in C and does not tell: then the call will."""
    try:
        return inspect.signature(target)
    except (TypeError, ValueError):
        return None


def _failed(doing: str, error: BaseException) -> str:
    """What the user's code did while it was `doing` that, on one line, with the innermost place outside the import system."""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [(file, line) for file, line in places if file != __file__ and "importlib" not in file]
    at = f" ({places[-1][0]}:{places[-1][1]})" if places else ""
    what = "left with " if isinstance(error, SystemExit) else "raised "
    return f"{doing} {what}{' '.join(describe(error).split())}{at}"
