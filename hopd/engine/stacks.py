"""Where some other greenlet or thread is just now, for the log; and which job it runs."""

from __future__ import annotations

from types import FrameType, TracebackType

from hopd.engine.executor import Executor
from hopd.job import Job

#: Innermost calls to show: enough to see what a handler is at, and bounded in the middle of a recursion.
MAX_FRAMES = 100


def traceback_of(frame: FrameType | None) -> TracebackType | None:
    """The calls from the handler to `frame`, in the form that logs print. Without a handler among them: all of them."""
    trace: TracebackType | None = None
    for _ in range(MAX_FRAMES):
        if frame is None or frame.f_code is Executor.run.__code__:
            break
        trace = TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return trace


def job_of(frame: FrameType | None) -> Job | None:
    """The job that is run by the stack that ends in `frame`; None when it runs no job."""
    while frame is not None and frame.f_code is not Executor.run.__code__:
        frame = frame.f_back
    job = None if frame is None else frame.f_locals.get("job")
    return job if isinstance(job, Job) else None
