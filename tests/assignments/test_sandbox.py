"""Whatever a cell does, it costs its own points and no others, and the student reads why."""

import re
import types
from pathlib import Path

import example
import pytest

import confine
import sandbox
import worker
from sandbox import Cell, Job, Limits, run

QUICK = Limits(cell=1.5, test=1.5, wall=20.0, memory_mib=512)
PUBLIC = example.SCALED_PUBLIC
needs_walls = pytest.mark.skipif(sandbox.walls() != "full", reason="no user, mount and process namespaces here")


def tried(*cells, limits=QUICK):
    """The example's two functions, then more cells of the student's: {id: fault or None} and the report."""
    own = [example.IMPORTS.replace("reader", "Bob"), example.SCALED, example.FIRST_PEAK, *cells]
    tests = [Cell("scaled-public", "public", PUBLIC), Cell("scaled-hidden", "hidden", example.SCALED_HIDDEN)]
    tests += [Cell("peak-hidden", "hidden", example.FIRST_PEAK_HIDDEN)]
    cells = [Cell(f"own-{number}", "own", source) for number, source in enumerate(own)] + tests
    report = run(cells, Job("example", "ada", example.IMPORTS), limits)
    return {name: outcome.fault for name, outcome in report.outcomes.items()}, report


GOOD = {"scaled-public": None, "scaled-hidden": None, "peak-hidden": None}


def test_right_answers_pass_under_the_id_they_are_graded_as():
    faults, report = tried()
    assert set(faults.values()) == {None}
    assert report.typed == "bob"
    assert report.outcomes["scaled-public"].printed == "scaled: public checks pass\n"
    assert report.outcomes["scaled-hidden"].printed == ""


CELLS = {
    "an endless loop": ("while True: pass", "stopped after 1.5 seconds of computing"),
    "one that swallows every exception": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "stopped after 1.5 seconds of computing",
    ),
    "one in C, deaf to signals": ("sum(range(10**12))", "stopped after"),
    "a huge list": ("x = [0] * 10**10", "MemoryError"),
    "a huge tensor": ("torch.empty(10**12)", "allocate memory"),
    "os._exit": ("import os; os._exit(0)", r"ended Python \(exit status 0\)"),
    "sys.exit": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    "a syntax error": ("def scaled(x:", "SyntaxError"),
    "an exception": ("1 / 0", r"ZeroDivisionError: division by zero \(line 1: 1 / 0\)"),
    "an import that fails": ("import no_such_module", "ModuleNotFoundError"),
    "input": ("input('?')", "StdinNotImplementedError|EOFError"),
    "junk in every pipe": (
        "import os\nfor n in range(3, 60):\n    try: os.write(n, b'{}\\n')\n    except OSError: pass",
        "the grader's own pipe",
    ),
    "every pipe closed": ("import os; os.closerange(3, 200)", "ended Python|stopped after"),
}


@pytest.mark.parametrize("what", CELLS)
def test_a_cell_that_fails_costs_no_other_cell(what):
    source, reason = CELLS[what]
    limits = Limits(cell=1.5, test=1.5, wall=2.0) if "deaf" in what else QUICK
    faults, _ = tried(source, limits=limits)
    assert faults["own-3"] and re.search(reason, faults["own-3"]), faults
    assert {name: faults[name] for name in GOOD} == GOOD


def test_a_sleep_ends_on_the_clock():
    faults, _ = tried("import time; time.sleep(10**6)", limits=Limits(cell=0.5, test=2.0, wall=6.0))
    assert faults["own-3"].startswith("stopped after 0.5 seconds of computing or 3 on the clock")
    assert faults["scaled-hidden"] is None


def test_gigabytes_of_output_are_cut():
    source = "import os\nfor _ in range(3000): print('x' * 10**6)\nos.write(1, b'y' * 10**8)"
    faults, report = tried(source)
    assert faults["own-3"] is None
    assert len(report.outcomes["own-3"].printed) < 11_000
    assert report.outcomes["own-3"].printed.endswith("more characters were cut")


TESTS = {
    "an endless loop": ("while True: pass", "no answer within 1.5 seconds"),
    "a loop that swallows": (
        "while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        "no answer within 1.5 seconds",
    ),
    "memory": ("return [0] * 10**10", "needs too much memory: more than 512 MiB"),
    "os._exit": ("import os; os._exit(0)", "the code ended Python (exit status 0)"),
    "sys.exit": ("import sys; sys.exit(0)", "raised SystemExit"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "Python crashed or was ended (SIGSEGV)"),
    "a fault of its own": ("class Told(Exception): pass\n    raise Told('12')", "other numbers: raised an error"),
    "a kind of its own": (
        "from dsmini.check import Wrong\n    raise Wrong('expected 12', 'expected 12')",
        "other numbers: failed",
    ),
    "nothing": ("raise NotImplementedError()", "other numbers: not answered yet"),
    "an exception": ("return x[99]", "other numbers: raised IndexError"),
    "a wrong value": ("return x + by", "other numbers: wrong values"),
}


@pytest.mark.parametrize("what", TESTS)
def test_a_function_that_fails_costs_its_own_tests(what):
    body, reason = TESTS[what]
    faults, _ = tried(f"def scaled(x, by):\n    {body}")
    assert faults["scaled-hidden"] == reason
    assert faults["scaled-public"]
    assert faults["peak-hidden"] is None


def test_checks_that_were_replaced_are_put_back():
    source = """import builtins, math, sys, types, dsmini.check
nothing = lambda *args, **kwargs: None
dsmini.check._compare = dsmini.check.close = nothing
dsmini.check.equal.__code__ = nothing.__code__
dsmini.check.Wrong.__init__ = nothing
dsmini.check.Variant.integer = lambda *_: 3
close = equal = refuses = case = nothing
torch.isclose = lambda *args, **kwargs: torch.ones(1, dtype=torch.bool)
torch.set_default_dtype(torch.float64)
sys.modules["dsmini.check"] = types.ModuleType("check")
scaled = first_peak = nothing"""
    faults, _ = tried(source)
    assert faults["own-3"] is None
    assert faults["scaled-hidden"] == "other numbers: NoneType, not a tensor"
    assert faults["peak-hidden"] == "ties go to the lower index: NoneType, not a number"


def test_names_that_shadow_the_tests_own_do_no_harm():
    faults, _ = tried("close, case, torch, me, x = 1, 2, 3, 4, 5", example.SCALED)
    assert {name: faults[name] for name in GOOD} == GOOD


def test_a_test_that_ends_early_has_not_passed():
    """Neither an exit nor a swallowed exception reaches the last statement."""
    body = "import sys\n    frame = sys._getframe(1)\n    frame.f_globals['close'] = print\n    sys.exit()"
    faults, _ = tried(f"def scaled(x, by):\n    {body}")
    assert faults["scaled-hidden"] == "raised SystemExit"


def test_a_hidden_test_tells_no_values():
    hidden = "### BEGIN HIDDEN TESTS\nclose(scaled(1.0, 2), 77.25)\n### END HIDDEN TESTS"
    cells = [Cell("own", "own", example.IMPORTS + "\n" + example.SCALED), Cell("t", "hidden", hidden)]
    report = run(cells, Job("example", "ada", example.IMPORTS), QUICK)
    assert report.outcomes["t"].fault == "wrong values"


def test_magics_and_shell_lines_work():
    faults, _ = tried("%time x = 1\n!echo installing\ny = x + 1")
    assert faults["own-3"] is None


def test_ending_python_again_and_again_has_a_bound():
    faults, report = tried(*["import os; os._exit(3)"] * 6)
    assert all(faults[f"own-{number}"] for number in range(3, 9))
    assert faults["scaled-hidden"].startswith("not run: other cells of this notebook ended Python again and again")


def test_cpu_seconds_have_a_total():
    limits = Limits(cell=1.0, test=1.0, total=3.0, wall=20.0)
    faults, report = tried(*["while True: pass"] * 6, limits=limits)
    assert faults["own-8"] == faults["scaled-public"] == "not run: the notebook had used up its 3 CPU seconds before"
    assert report.cpu < 6


@needs_walls
def test_there_is_no_network():
    source = """import socket
for address in (("127.0.0.1", 22), ("1.1.1.1", 53)):
    try:
        socket.create_connection(address, timeout=5)
    except OSError:
        continue
    raise SystemError("connected")"""
    faults, _ = tried(source)
    assert faults["own-3"] is None


@needs_walls
def test_files_are_hidden_and_python_is_read_only(tmp_path):
    (tmp_path / "other.ipynb").write_text("another's work", encoding="utf-8")
    source = f"""from pathlib import Path
import dsmini
root = Path(dsmini.__file__).parents[1]
assert not Path({str(tmp_path)!r}).exists()
assert sorted(path.name for path in root.iterdir() if path.name not in (".venv", "assignments")) == ["dsmini"]
assert [path.name for path in root.glob("assignments/*/*")] == ["worker.py"]
assert not Path("/etc/passwd").exists()
assert all(path.name.startswith(".") for path in Path.home().iterdir())
for path in (Path(dsmini.__file__), Path("/usr/planted"), root / "planted"):
    try:
        open(path, "a").close()
    except OSError:
        continue
    assert path == root / "planted", path
Path("mine.txt").write_text("a file of one's own is fine")"""
    faults, _ = tried(source)
    assert faults["own-3"] is None
    assert not (sandbox.PACKAGE.parent / "planted").exists()


@needs_walls
def test_a_fork_bomb_ends(monkeypatch):
    faults, _ = tried("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass")
    assert faults["own-3"]
    assert {name: faults[name] for name in GOOD} == GOOD


@needs_walls
def test_what_a_cell_leaves_running_is_gone_before_the_tests():
    source = """import os, time
if os.fork() == 0:
    os.setsid()
    while True: time.sleep(1)"""
    look = """from pathlib import Path
states = [path.read_text().rpartition(")")[2].split()[0] for path in Path("/proc").glob("[0-9]*/stat")]
assert len([state for state in states if state != "Z"]) <= 3, states"""
    cells = [Cell("own", "own", source), Cell("test", "public", look)]
    report = run(cells, Job("example", "ada", example.IMPORTS), QUICK)
    assert report.outcomes["test"].fault is None


def test_the_notice_says_what_is_missing(monkeypatch):
    for wall, words in (("full", None), ("net", "Files are not hidden"), ("none", "can use the network")):
        monkeypatch.setattr(sandbox, "walls", lambda wall=wall: wall)
        assert sandbox.notice() is None if words is None else words in sandbox.notice()


def test_without_namespaces_the_limits_still_hold(monkeypatch):
    monkeypatch.setattr(sandbox, "walls", lambda: "none")
    faults, _ = tried("while True: pass", "def first_peak(values):\n    import os; os._exit(0)")
    assert "stopped after" in faults["own-3"]
    assert faults["scaled-hidden"] is None
    assert "ended Python" in faults["peak-hidden"]


def test_the_dead_of_a_cell_do_not_cost_a_test(monkeypatch):
    """A killed process counts until it is buried, and a fork that comes too early is refused."""
    refused = [BlockingIOError(), BlockingIOError()]

    def fork():
        if refused:
            raise refused.pop()
        return 123

    monkeypatch.setattr(worker.os, "fork", fork)
    assert worker.fork(alone=False) == 123 and not refused
    refused += [BlockingIOError()] * 3
    with pytest.raises(BlockingIOError):
        worker.fork(alone=False, patience=0.0)


@needs_walls
def test_the_number_of_processes_of_the_whole_machine_stays():
    path = Path("/proc/sys/kernel/pid_max")
    before = path.read_text(encoding="utf-8")
    tried()
    assert path.read_text(encoding="utf-8") == before


@pytest.mark.skipif(not hasattr(confine.os, "uname"), reason="no kernel's version here")
@pytest.mark.parametrize(
    ("release", "version"), [("6.14.2-generic", (6, 14)), ("5.15.0", (5, 15)), ("strange", (0, 0))]
)
def test_kernel_versions_are_compared_as_numbers(monkeypatch, release, version):
    monkeypatch.setattr(confine.os, "uname", lambda: types.SimpleNamespace(release=release))
    assert confine.kernel() == version
