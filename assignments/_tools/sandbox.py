"""A notebook's cells and tests, run where they can harm nobody: a verdict for each, whatever they do.

`run` starts `confine.py`, which becomes `worker.py`, talks with it and keeps the clock. When the process dies in a
cell, that cell has failed and the rest is run again without it. Nothing that comes from the other side is trusted: it
is bounded, and of a hidden test only the case's name and the kind of failure get through.
"""

import ast
import builtins
import contextlib
import dataclasses
import functools
import json
import os
import queue
import re
import secrets
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import dsmini

HERE = Path(__file__).parent
PACKAGE = Path(dsmini.__file__).parent
TIME = 121  # as in worker.py
MOST_LINE = 200_000  # bytes of one reply
_CPU_SIGNALS = {-getattr(signal, name) for name in ("SIGPROF", "SIGXCPU", "SIGALRM") if hasattr(signal, name)}
_KINDS = re.compile(
    r"wrong values|NaN|a wrong (shape|value|length)|not answered yet|other keys than expected"
    r"|no error where one was expected|an error that does not name what is wrong|\w{1,40}, not an? \w{1,40}"
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of one submission. cell and test: CPU seconds of each; total: of all, the start of Python included.

    wall: how many times longer than its CPU seconds a thing may take on the clock. memory_mib: on top of what Python
    and torch take. processes: at the same time.
    """

    cell: float = 10.0
    test: float = 5.0
    total: float = 60.0
    wall: float = 6.0
    memory_mib: int = 2048
    file_mib: int = 64
    processes: int = 64
    restarts: int = 3

    def seconds(self, kind):
        cpu = self.cell if kind == "own" else self.test
        return {"cpu": cpu, "wall": cpu * self.wall}


@dataclasses.dataclass(frozen=True)
class Cell:
    """kind: own (the student's), public or hidden (tests)."""

    id: str
    kind: str
    source: str


@dataclasses.dataclass(frozen=True)
class Job:
    """problem_set, student: names. given: the code of the problem set that its tests may count on."""

    problem_set: str
    student: str
    given: str


@dataclasses.dataclass
class Outcome:
    """fault: None, or why the cell failed, in words for the student. printed: what it printed, cut."""

    fault: str | None = None
    printed: str = ""


@dataclasses.dataclass
class Report:
    """outcomes: of every cell by id. typed: another id than the student's under which the notebook was worked."""

    outcomes: dict
    typed: str | None = None
    cpu: float = 0.0


class Died(Exception):
    """The process of a notebook is gone; the text says why."""


class Broken(RuntimeError):
    """The grader's own failure: no process could be started. No student's fault."""


def run(cells, job, limits=None):
    """Run a notebook's own cells in order, then its public tests, then the hidden ones: a `Report`.

    Nothing of the student's runs after a hidden test that could print what it has seen there.
    """
    limits, report = limits or Limits(), Report({})
    own = [cell for cell in cells if cell.kind == "own"]
    tests = [cell for kind in ("public", "hidden") for cell in cells if cell.kind == kind]
    deadly, spent = set(), 0.0
    for _ in range(limits.restarts + 1):
        left = [cell for cell in own if cell.id not in deadly] + [t for t in tests if t.id not in report.outcomes]
        with Worker(job, limits) as worker:
            cell = None
            try:
                for cell in left:
                    began, report.cpu = time.monotonic(), spent + worker.cpu
                    if report.cpu > limits.total:
                        fault = f"not run: the notebook had used up its {limits.total:g} CPU seconds before"
                        report.outcomes.setdefault(cell.id, Outcome(fault))
                        continue
                    outcome = worker.run(cell)
                    report.outcomes.setdefault(cell.id, outcome)
                report.typed, report.cpu = worker.typed, spent + worker.cpu
                return report
            except Died as death:
                deadly.add(cell.id)
                spent += min(time.monotonic() - began, limits.seconds(cell.kind)["cpu"])  # what nobody reported
                report.outcomes[cell.id] = Outcome(str(death))
        spent += worker.cpu
        if spent > limits.total:
            break
    for cell in cells:
        fault = "not run: other cells of this notebook ended Python again and again, or used up its time"
        report.outcomes.setdefault(cell.id, Outcome(fault))
    report.cpu = spent
    return report


class Worker:
    """A process that runs cells, and the clock, the scales and the lock around it."""

    def __init__(self, job, limits):
        self.job, self.limits = job, limits
        self.cpu, self.typed, self.replies = 0.0, None, queue.Queue()

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cell-", ignore_cleanup_errors=True)
        wall = walls()
        order = order_for(wall, [sys.executable, "-I", str(HERE / "worker.py")], self.folder.name, self.limits)
        order["environment"]["DSMINI_STUDENT"] = self.job.student
        self.errors = tempfile.TemporaryFile()
        self.process = start(order, self.errors)
        threading.Thread(target=self._listen, daemon=True).start()
        begin = {**dataclasses.asdict(self.job), "package": str(PACKAGE.parent), "alone": wall == "full"}
        begin["memory_mib"] = self.limits.memory_mib
        try:
            self._ask({"do": "begin", **begin}, 120)
        except Died as death:
            self.errors.seek(0)
            said = self.errors.read(2000).decode(errors="replace").strip()
            self.__exit__()
            raise Broken(f"the sandbox does not start: {death}. {said}") from None
        return self

    def __exit__(self, *_):
        _kill(self.process)
        self.process.wait()
        for stream in (self.process.stdin, self.errors):
            with contextlib.suppress(OSError):
                stream.close()
        self.folder.cleanup()

    def run(self, cell):
        """The `Outcome` of one cell. Raises Died."""
        seconds = self.limits.seconds(cell.kind)
        patience = seconds["wall"] + 5
        if cell.kind == "own":
            reply = self._ask({"do": "cell", "source": cell.source, "seconds": seconds}, patience)
            self.typed = _text(reply.get("typed"), 80) or None
            error = reply.get("error")
            return Outcome(error and self._own_fault(error), _text(reply.get("printed"), 11_000))
        nonce = secrets.token_hex(16)
        command = {"do": "test", "source": cell.source, "nonce": nonce, "seconds": seconds}
        reply = self._ask(command, patience)
        printed = _text(reply.get("printed"), 11_000) if cell.kind == "public" else ""
        if reply.get("nonce") == nonce:
            return Outcome(None, printed)
        if "died" in reply:
            return Outcome(self._death(reply["died"], f"no answer within {self.limits.test:g} seconds"), printed)
        return Outcome(self._test_fault(reply.get("fault"), cell), printed)

    def _own_fault(self, error):
        name, text = _text(error.get("name"), 60), _text(error.get("text"), 2000)
        if name == "TimeOut":
            return self._stopped()
        place = f" (line {error['line']}: {_text(error.get('code'), 200)})" if error.get("line") else ""
        return f"{name}: {text}{place}" if text else f"{name}{place}"

    def _stopped(self):
        clock = self.limits.seconds("own")["wall"]
        return f"stopped after {self.limits.cell:g} seconds of computing or {clock:g} on the clock"

    def _test_fault(self, fault, cell):
        if not isinstance(fault, dict):
            return "failed, without a reason that can be read"
        name, text, kind = (_text(fault.get(key), 2000) for key in ("name", "text", "kind"))
        if name == "TimeOut":
            return f"no answer within {self.limits.test:g} seconds"
        if fault.get("memory"):
            return f"needs too much memory: more than {self.limits.memory_mib} MiB"
        if cell.kind == "hidden":
            return _hidden_reason(name, text, kind, cell.source)
        if kind:
            return text
        if name == "NotImplementedError":
            return "not answered yet"
        return f"{name}: {text}"

    def _death(self, status, late):
        if status in _CPU_SIGNALS or status == TIME:
            return late
        if isinstance(status, int) and status >= 0:
            return f"the code ended Python (exit status {status})"
        name = signal.Signals(-status).name if isinstance(status, int) and -status in _SIGNALS else "a signal"
        return f"Python crashed or was ended ({name})"

    def _ask(self, command, seconds):
        """A command's reply. Raises Died, with the reason, if none comes."""
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            raise Died(self._end(seconds)) from None
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.replies.get(timeout=0.2)
            except queue.Empty:
                self._weigh()
                if time.monotonic() > deadline:
                    raise Died(f"stopped after {seconds:g} seconds on the clock") from None
                continue
            return self._parsed(line, seconds)

    def _parsed(self, line, seconds):
        if line is None:
            raise Died(self._end(seconds))
        try:
            reply = json.loads(line)
            cpu = float(reply["cpu"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Died("it wrote into the grader's own pipe") from None
        self.cpu = max(self.cpu, min(cpu, 1e6))
        return reply

    def _end(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(2)
            if os.name != "nt" and status > 128:  # of the process within the namespace
                status = 128 - status if 256 - status not in _SIGNALS else status - 256
            return self._death(status, self._stopped())
        return f"stopped after {seconds:g} seconds on the clock"

    def _weigh(self):
        """Raises Died if the process and its children are too many or too heavy."""
        import psutil

        with contextlib.suppress(psutil.Error):
            family = psutil.Process(self.process.pid).children(recursive=True)
            if len(family) > self.limits.processes + 2:
                raise Died(f"started more than {self.limits.processes} processes")
            weight = 0
            for one in family:
                with contextlib.suppress(psutil.Error):
                    memory = one.memory_info()
                    weight += memory.rss - getattr(memory, "shared", 0)
            if weight > 1.5 * self.limits.memory_mib * 2**20:
                raise Died(f"needs too much memory: more than {self.limits.memory_mib} MiB")

    def _listen(self):
        with contextlib.suppress(OSError, ValueError):
            while line := self.process.stdout.readline(MOST_LINE):
                if self.replies.qsize() > 100:
                    break
                self.replies.put(line)
        self.replies.put(None)


_SIGNALS = {int(number) for number in signal.Signals}


def _text(value, most):
    return value[:most] if isinstance(value, str) else ""


def _hidden_reason(name, text, kind, source):
    """What a student may read of a hidden test: a case's name as it stands in the test, and a known kind."""
    names = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    known = lambda error: isinstance(getattr(builtins, error, None), type)  # noqa: E731
    case = text[: -len(kind) - 2] if kind and text.endswith(f": {kind}") else None
    prefix = f"{case}: " if case in names and case else ""
    if kind is None or not kind:
        if name == "NotImplementedError":
            return "not answered yet"
        return f"raised {name}" if known(name) else "raised an error"
    if kind.startswith("raised "):
        kind = kind if known(kind.removeprefix("raised ")) else "raised an error"
    elif not _KINDS.fullmatch(kind):
        kind = "failed"
    return prefix + kind


def order_for(wall, command, scratch, limits):
    """What `confine.py` is told."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/scratch" if wall == "full" else scratch, "LANG": "C.UTF-8",
        "USER": "student", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    if os.name == "nt":
        environment["SYSTEMROOT"] = os.environ["SYSTEMROOT"]
    running = 0
    if wall == "none" and os.name != "nt":
        import psutil

        running = 4 * len(psutil.pids())
    return {"wall": wall, "show": visible(), "scratch": scratch, "command": command, "environment": environment,
            "processes": limits.processes, "running": running, "file_mib": limits.file_mib}  # fmt: skip


@functools.cache
def visible():
    """The paths that a notebook needs: Python, its packages, dsmini and the worker itself."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *site.getsitepackages()}
    prefixes |= {str(Path(prefix).resolve()) for prefix in prefixes}
    prefixes.add(str(Path(sys.executable).resolve().parents[1]))
    found = sorted({prefix for prefix in prefixes if os.path.isdir(prefix) and prefix != "/"})
    return (*found, str(PACKAGE), str(HERE / "worker.py"))


def start(order, errors=subprocess.DEVNULL):
    command = [sys.executable, "-I", "-S", str(HERE / "confine.py"), json.dumps(order)]
    if os.name == "nt":  # no namespaces and no exec: the worker is started as it is
        command = order["command"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0,
                            cwd=order["scratch"], env=order["environment"], start_new_session=True)  # fmt: skip


def _kill(process):
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        process.kill()


@functools.cache
def walls():
    """How much of a lock this machine can make: full, net or none."""
    command = [sys.executable, "-I", "-c", "import torch; print('inside')"]
    for wall in ("full", "net") if sys.platform == "linux" else ():
        with tempfile.TemporaryDirectory() as folder:
            process = start(order_for(wall, command, folder, Limits()))
            try:
                said, _ = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                said = b""
            _kill(process)
            process.wait()
            if b"inside" in said:
                return wall
    return "none"


def notice():
    """What is missing on this machine, or None."""
    return {
        "full": None,
        "net": "Files are not hidden from the submissions on this machine: they can read what you can read. "
               "Grade inside a container, or on a machine with user, mount and process namespaces.",
        "none": "The submissions can use the network and read your files on this machine: it has no namespaces. "
                "Grade inside a container or a virtual machine without a network.",
    }[walls()]  # fmt: skip
