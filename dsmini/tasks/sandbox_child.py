"""The program that `dsmini.tasks.sandbox` starts for one submission: run it on its cases, report a line for each.

It reads its job from stdin and imports next to nothing, so that it starts in a few milliseconds. The one decision to
know: verdicts leave this process, values never do. Results are compared here, by type and value, with what is expected
unpacked only after the call, and every case gets a fresh namespace and arguments of its own.
"""

import _signal  # the C part of `signal`, which alone would cost as much as everything else here
import builtins
import marshal
import os
import sys

try:
    import resource
except ImportError:  # Windows: the parent's wall clock is the only limit
    resource = None

_SHOWN = 160  # characters of a reason


def main():
    """Read the job, hide the streams, set the limits, and only then touch the submission."""
    token, source, function, names, cases, limits = marshal.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)
    if resource is not None:
        set_limits(*limits)
    for arguments, expected in cases:
        fault = fault_of(source, function, names, arguments, expected)
        line = f"{token} {' '.join(fault.split())[:_SHOWN]}\n"
        os.write(channel, line.encode("utf-8", "backslashreplace"))
    os._exit(0)


def set_limits(cpu_seconds, memory):
    """CPU seconds from here on (float) and address space in bytes; nothing may be opened, written or forked.

    The profiling timer counts CPU time in fractions of a second, and its default action, unlike an exception, also
    ends a single long call in C. RLIMIT_CPU, in whole seconds, stands behind it. Root is exempt from RLIMIT_NPROC.
    """
    seconds = int(cpu_seconds) + 2
    limits = {"CPU": seconds, "AS": memory, "FSIZE": 0, "NOFILE": 0, "NPROC": 0, "CORE": 0}
    for name, value in limits.items():
        try:
            kind = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        except (AttributeError, OSError, ValueError):
            if sys.platform == "linux":
                raise  # elsewhere not every limit exists: macOS takes no RLIMIT_AS
    _signal.signal(_signal.SIGPROF, _signal.SIG_DFL)
    _signal.setitimer(_signal.ITIMER_PROF, cpu_seconds)


def fault_of(source, function, names, arguments, expected):
    """What is wrong with one case, as a line of text; "" if nothing is. arguments, expected: marshalled."""
    try:
        space = {"__builtins__": {name: getattr(builtins, name) for name in names}}
        exec(compile(source, "<submission>", "exec", dont_inherit=True), space)
        if not callable(space.get(function)):
            return f"error: there is no function {function}"
        result = space[function](*marshal.loads(arguments))
    except MemoryError:
        return "memory: it asked for more than it may have"
    except BaseException as error:  # whatever it is, it is the submission's
        return f"error: {shown(error, str)} ({type(error).__name__})"
    wanted = marshal.loads(expected)
    if same(result, wanted):
        return ""
    call = ", ".join(shown(argument) for argument in marshal.loads(arguments))
    return f"wrong: {function}({call}) is {shown(result)}, not {shown(wanted)}"


def same(result, wanted):
    """Whether two values are equal with equal types all the way down; only `wanted` is known to be JSON-like."""
    if type(result) is not type(wanted):
        return False
    if type(wanted) is list:
        return len(result) == len(wanted) and all(map(same, result, wanted))
    if type(wanted) is dict:
        keys_agree = all(type(key) is str for key in result) and result.keys() == wanted.keys()
        return keys_agree and all(same(result[key], wanted[key]) for key in wanted)
    return result == wanted


def shown(value, how=repr):
    """The text of a value, cut; showing it can fail in as many ways as running it."""
    try:
        text = how(value)
    except BaseException:
        return "something that cannot be shown"
    return text if len(text) <= 50 else f"{text[:47]}..."


if __name__ == "__main__":
    main()
