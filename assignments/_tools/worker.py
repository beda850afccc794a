"""Runs a notebook's cells and then its tests, in the process that `confine.py` prepared. Talks JSON, a line each way.

    {"do": "begin", ...}  once              {"do": "cell", "source": ...}  the student's, all in one namespace
    {"do": "test", "source": ..., "nonce": ...}  in a fork, which sees the names of the cells

A test passes if its last statement is reached; the nonce comes back then and not before. Before it runs, whatever the
cells may have changed in `dsmini`, torch and the builtins is put back, and the imports and functions that the problem
set gives are defined again. Against a student who reads this file and wants to cheat it is no wall: nothing is, within
one Python process. It is one against accidents and against the tricks that circulate.
"""

import ast
import contextlib
import io
import json
import linecache
import os
import random
import select
import signal
import sys
import time
import types
import warnings

try:
    import resource
except ImportError:  # Windows: no limits here, the process that listens has a clock
    resource = None

TIME = 121  # the exit status of a process that did not stop when told
MOST_TEXT = 10_000  # characters of a cell's output that are kept
CHECK = "dsmini.check"


class TimeOut(BaseException):
    """No Exception: a student's `except Exception` lets it pass."""


class Paper(io.TextIOBase):
    """A standard output that keeps the beginning and drops the rest."""

    def __init__(self):
        self.parts, self.left, self.dropped = [], MOST_TEXT, 0

    def writable(self):
        return True

    def write(self, text):
        kept = text[: self.left]
        if kept:
            self.parts.append(kept)
        self.left -= len(kept)
        self.dropped += len(text) - len(kept)
        return len(text)

    def text(self):
        end = f"\n... {self.dropped:,} more characters were cut" if self.dropped else ""
        return "".join(self.parts) + end


@contextlib.contextmanager
def alarm(cpu, wall):
    """Raises TimeOut after so many seconds, and ends the process a second later if that was swallowed."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    rung = []

    def ring(*_):
        if rung:
            os._exit(TIME)
        rung.append(True)
        raise TimeOut

    clocks = {signal.ITIMER_PROF: (signal.SIGPROF, cpu), signal.ITIMER_REAL: (signal.SIGALRM, wall)}
    try:
        for clock, (number, seconds) in clocks.items():
            signal.signal(number, ring)
            signal.setitimer(clock, seconds, 1.0)
        yield
    finally:
        for clock in clocks:
            signal.setitimer(clock, 0)


class Talk:
    """One JSON object a line, on copies of stdin and stdout that a `print` does not reach."""

    def __init__(self):
        self.hear, self.say = os.fdopen(os.dup(0), "rb"), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.close(nothing)

    def commands(self):
        for line in self.hear:
            yield json.loads(line)

    def reply(self, **values):
        say(self.say, values)


def say(pipe, values):
    """One JSON object as a line, whole."""
    data = json.dumps(values).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


class Snapshot:
    """What a cell must not change for its tests: modules, their classes and their functions."""

    def __init__(self):
        import builtins
        import math

        import torch

        names = [name for name in sys.modules if name.split(".")[0] == "dsmini"]
        self.modules = {name: sys.modules[name] for name in names}
        plain = [builtins, math, json, ast, torch, torch.nn.functional, torch.nn, contextlib]
        owners = [*self.modules.values(), *plain, torch.Tensor, torch.nn.Module]
        functions = []
        for module in self.modules.values():
            mine = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
            owners += [value for value in mine if isinstance(value, type)]
        for owner in owners:
            if owner in plain:
                continue
            functions += [value for value in vars(owner).values() if isinstance(value, types.FunctionType)]
        self.owners = [(owner, dict(vars(owner))) for owner in owners]
        self.functions = [(f, f.__code__, f.__defaults__, f.__kwdefaults__) for f in functions]

    def restore(self):
        sys.modules.update(self.modules)
        for owner, values in self.owners:
            now = vars(owner)
            for name, value in values.items():
                if now.get(name) is not value:
                    with contextlib.suppress(AttributeError, TypeError):
                        setattr(owner, name, value)
        for function, code, defaults, keywords in self.functions:
            function.__code__, function.__defaults__, function.__kwdefaults__ = code, defaults, keywords


def own_shell():
    """IPython without a terminal: magics and top-level await work, errors come back instead of being printed."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    class Shell(InteractiveShell):
        def showtraceback(self, *args, **kwargs):
            pass

        showsyntaxerror = showindentationerror = showtraceback
        system = InteractiveShell.system_raw  # no terminal is there to pretend

        def _tee(self, channel):
            return contextlib.nullcontext()  # IPython's own would keep every character that is printed

    warnings.filterwarnings("ignore", module="IPython")  # its hint how to leave after a sys.exit
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "NoColor"
    config.InteractiveShell.xmode = "Minimal"
    return Shell.instance(config=config)


def place_of(error, source):
    """(line, its text) of the student's or the test's code in which an error arose; (None, None) if it is elsewhere."""
    if isinstance(error, SyntaxError):
        lines = source.split("\n")
        inside = error.lineno and error.lineno <= len(lines)
        return error.lineno, lines[error.lineno - 1] if inside else (error.text or "")
    step, place = error.__traceback__, (None, None)
    while step:
        file = step.tb_frame.f_code.co_filename
        if file.startswith("<ipython-input-"):
            place = step.tb_lineno, linecache.getline(file, step.tb_lineno)
        elif file == "<test>":
            place = step.tb_lineno, source.split("\n")[step.tb_lineno - 1]
        step = step.tb_next
    return place


def described(error, source):
    """An error in a student's words: {"name", "text", "line", "code"}."""
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
        line, code = place_of(error, source)
        code = code and code.strip()[:200]
    except BaseException:
        text, line, code = "(an error that cannot be printed)", None, None
    return {"name": type(error).__name__[:60], "text": text[:2000], "line": line, "code": code}


def run_cell(shell, source, seconds):
    """A student's cell: what it printed, and its error or None."""
    paper, error = Paper(), None
    sys.stdout = sys.stderr = paper
    try:
        with alarm(seconds["cpu"], seconds["wall"]):
            result = shell.run_cell(source, store_history=False)
        error = result.error_before_exec or result.error_in_exec
    except BaseException as caught:
        error = caught
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    if isinstance(error, TimeOut):
        return paper.text(), {"name": "TimeOut", "text": "", "line": None, "code": None}
    return paper.text(), error and described(error, source)


def given_nodes(source):
    """The imports, functions and classes at the top of a source, in order."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return [node for node in ast.parse(source).body if isinstance(node, kinds)]


def test_names(names, job):
    """The namespace of a test: the student's names, then what the problem set gives."""
    names = dict(names)
    for node in given_nodes(job["given"]):
        with contextlib.suppress(Exception):
            exec(compile(ast.Module([node], []), "<given>", "exec"), names)
    names["me"] = sys.modules[CHECK].variant(job["problem_set"], job["student"])
    return names


def settle():
    """The state that a test starts from, whatever the cells left."""
    import numpy
    import torch

    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_default_device(None)
    torch.manual_seed(0)
    numpy.random.seed(0)
    random.seed(0)
    sys.settrace(None)
    sys.setprofile(None)
    sys.setrecursionlimit(3000)


def reason_of(error, source):
    """Why a test failed: {"name", "kind", "text", "line", "memory"}."""
    chain, memory = error, False
    while chain is not None and not memory:
        memory = isinstance(chain, MemoryError) or "allocate memory" in str(chain)[:500]
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, TimeOut):
        return {"name": "TimeOut", "kind": None, "text": "", "memory": False}
    fault = described(error, source)
    kind = getattr(error, "kind", None)
    return {**fault, "kind": kind if isinstance(kind, str) else None, "memory": memory}


def judge(command, names, snapshot, job):
    """In the fork: run a test to its end. Returns what to say."""
    paper = Paper()
    sys.stdout = sys.stderr = paper
    os.environ["DSMINI_STUDENT"] = job["student"]
    seconds = command["seconds"]
    if resource:
        most = int(seconds["cpu"]) + 3
        resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    try:
        with alarm(seconds["cpu"], seconds["wall"]):
            snapshot.restore()
            settle()
            names = test_names(names, job)
            snapshot.restore()
            exec(compile(command["source"], "<test>", "exec"), names)
    except BaseException as error:
        return {"fault": reason_of(error, command["source"]), "printed": paper.text()}
    return {"nonce": command["nonce"], "printed": paper.text()}


def fork(alone, patience=10.0):
    """os.fork, tried again for some seconds: the processes of a cell count until they are dead and buried.

    alone: the process table is ours, and whatever the cells left running ends here.
    """
    end = time.monotonic() + patience
    while True:
        if alone:
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        try:
            return os.fork()
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def run_test(command, names, snapshot, job):
    """Fork, judge, listen until the fork has spoken or is dead."""
    if not hasattr(os, "fork"):
        return judge(command, names, snapshot, job)
    reader, writer = os.pipe()
    child = fork(job["alone"])
    if child == 0:
        try:
            os.close(reader)
            say(writer, judge(command, names, snapshot, job))
        finally:
            os._exit(1)
    os.close(writer)
    said, status = listen(reader, child, time.monotonic() + command["seconds"]["wall"] + 2)
    os.close(reader)
    with contextlib.suppress(ValueError):
        return json.loads(said)
    return {"died": status}


def listen(reader, child, end):
    """(what a fork said, its exit status). It is dead afterwards; one that said nothing until the end was too slow."""
    said, dead = b"", 0
    while not said.endswith(b"\n") and not dead and len(said) < 10 * MOST_TEXT and time.monotonic() < end:
        if select.select([reader], [], [], 0.05)[0]:
            said += os.read(reader, 65536)
        if not said.endswith(b"\n"):  # a pipe may be closed by the living and held open by a child of the dead
            dead, status = os.waitpid(child, os.WNOHANG)
    if not dead:
        late = time.monotonic() >= end
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        status = TIME << 8 if late else signal.SIGKILL
    return said, os.waitstatus_to_exitcode(status)


def cpu_seconds():
    if not resource:
        return time.process_time()
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in use)


def limit_memory(mib):
    """So much more than Python and torch take already. No effect on macOS."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + mib * 2**20,) * 2)


def prepare(job):
    """Import what the problem set imports, and remember how it looked."""
    sys.path.insert(0, job["package"])
    os.environ["DSMINI_STUDENT"] = job["student"]
    import importlib

    import torch

    torch.set_num_threads(1)
    importlib.import_module(CHECK)
    shell = own_shell()
    names = {"__name__": "__main__"}
    for node in given_nodes(job["given"]):
        if isinstance(node, ast.Import | ast.ImportFrom):
            with contextlib.suppress(Exception):
                exec(compile(ast.Module([node], []), "<given>", "exec"), names)
    snapshot = Snapshot()
    if resource:
        limit_memory(job["memory_mib"])
    return shell, snapshot


def main():
    talk = Talk()
    commands = talk.commands()
    job = next(commands)
    shell, snapshot = prepare(job)
    talk.reply(ready=True, cpu=cpu_seconds())
    for command in commands:
        if command["do"] == "cell":
            printed, error = run_cell(shell, command["source"], command["seconds"])
            typed = getattr(shell.user_ns.get("me"), "typed", None)
            typed = typed[:80] if isinstance(typed, str) else None
            talk.reply(printed=printed, error=error, typed=typed, cpu=cpu_seconds())
        else:
            talk.reply(**run_test(command, shell.user_ns, snapshot, job), cpu=cpu_seconds())


if __name__ == "__main__":
    main()
