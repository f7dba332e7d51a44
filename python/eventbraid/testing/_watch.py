"""Finds the calls by which a command's function depends on more than its arguments.

The interpreter reports each call of a function in C to a profile function. So nothing
is replaced: the clock and the random numbers of the process work as always, and calls
of the library's own code are ignored.
"""

from __future__ import annotations

import _socket
import builtins
import datetime as dt
import gc
import io
import os
import random
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eventbraid._native import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType
    from typing import Self

    Happened = Literal["call", "return", "c_call", "c_return", "c_exception"]
    Profile = Callable[[FrameType, Happened, Any], object]

_CLOCK, _RANDOM, _INPUT_OUTPUT = (
    "reads the clock",
    "uses random numbers",
    "performs input or output",
)

_FUNCTIONS: dict[object, str] = {
    **dict.fromkeys(
        (
            time.time,
            time.time_ns,
            time.monotonic,
            time.monotonic_ns,
            time.perf_counter,
            time.perf_counter_ns,
            time.process_time,
            time.process_time_ns,
            time.thread_time,
            time.thread_time_ns,
            time.clock_gettime,
            time.clock_gettime_ns,
        ),
        _CLOCK,
    ),
    **dict.fromkeys((os.urandom, os.getrandom, uuid7), _RANDOM),
    **dict.fromkeys((io.open, os.open, builtins.input, time.sleep), _INPUT_OUTPUT),
}

_CLOCK_METHODS = frozenset({"now", "utcnow", "today"})
_SOCKET_METHODS = frozenset({"bind", "connect", "connect_ex", "recv", "send", "sendto"})

_shared_random: random.Random = random.random.__self__  # type: ignore[attr-defined]

_STANDARD_LIBRARY = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) + os.sep
    for name in ("stdlib", "platstdlib")
)
_SITE_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
_EXAMPLES = f"{_PACKAGE}examples{os.sep}"


@dataclass(frozen=True, slots=True)
class ImpureCall:
    """A call that makes a function impure.

    Attributes:
        effect: The effect of the call, as a predicate: ``"reads the clock"``.
        function: The name of the function that is called.
        method: The class and the name of the method that leads to the call.
        file: The file of the caller.
        line: The line of the caller.
    """

    effect: str
    function: str
    method: tuple[str, str]
    file: str
    line: int


class Watch:
    """A context in which the impure calls of this thread are recorded."""

    def __init__(self, methods: dict[CodeType, tuple[str, str]]) -> None:
        """Prepare to watch.

        Args:
            methods: The code of the functions that must be pure, with class and name.
        """
        self.calls: list[ImpureCall] = []
        self._methods = methods
        self._previous: Profile | None = None
        self._boundary: FrameType | None = None

    def __enter__(self) -> Self:
        self._boundary = sys._getframe(1)  # noqa: SLF001 - the frame to stop at
        self._previous = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.setprofile(self._previous)
        # A frame refers to all its variables.
        self._boundary = self._previous = None

    def _note(self, frame: FrameType, happened: Happened, called: Any) -> None:
        if happened != "c_call":
            return
        effect = _effect_of(called)
        if effect is None:
            return
        caller: FrameType | None = None
        function = _name_of(called)
        method: tuple[str, str] | None = None
        at: FrameType | None = frame
        while at is not None and at is not self._boundary and method is None:
            code = at.f_code
            if code in _codes_of_collector():
                return
            method = self._methods.get(code)
            if caller is None and (method or _is_of_application(code.co_filename)):
                caller = at
            if caller is None:
                # The application has called this function of the standard library.
                function = f"{at.f_globals['__name__']}.{code.co_name}"
            at = at.f_back
        # A call that none of the methods has led to is the library's own.
        if caller is not None and method is not None:
            place = caller.f_code.co_filename, caller.f_lineno
            self.calls.append(ImpureCall(effect, function, method, *place))


def _effect_of(called: Any) -> str | None:
    try:
        effect = _FUNCTIONS.get(called)
    except TypeError:  # A method of an object that has no hash.
        return None
    if effect is not None:
        return effect
    owner = getattr(called, "__self__", None)
    if owner is _shared_random:
        return _RANDOM
    name = called.__name__
    if isinstance(owner, type) and issubclass(owner, dt.date):
        return _CLOCK if name in _CLOCK_METHODS else None
    if isinstance(owner, _socket.socket) and name in _SOCKET_METHODS:
        return _INPUT_OUTPUT
    return None


def _codes_of_collector() -> set[object]:
    """Return the code of functions that the garbage collector calls at any time."""
    return {getattr(callback, "__code__", None) for callback in gc.callbacks}


def _name_of(called: Any) -> str:
    owner = getattr(called, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__name__}.{called.__name__}"
    module = getattr(called, "__module__", None)
    if owner is _shared_random:
        module = "random"
    is_plain = module in {None, "builtins", "io", "_io"}
    return called.__name__ if is_plain else f"{module}.{called.__name__}"


def _is_of_application(file: str) -> bool:
    if file.startswith(_PACKAGE):
        return file.startswith(_EXAMPLES)
    if file.startswith("<frozen") or file == "<string>":
        return False
    is_installed = any(part in file for part in _SITE_PACKAGES)
    return is_installed or not file.startswith(_STANDARD_LIBRARY)
