"""The sandbox: what it refuses, what it stops, what it never believes, and that right programs get through.

Limits are tested behind the list of what is allowed too: `unlisted` runs a source with every builtin and no check.
"""

import ast
import contextlib
import functools
import marshal
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsmini.tasks import sandbox, sandbox_child
from dsmini.tasks.sandbox import BUILTINS, METHODS, Limits, Refused, Verdict, check_source, run_tests

SQUARES = [((3,), 9), ((4,), 16)]
resource = pytest.importorskip("resource", reason="Windows has none of these limits")
QUICK = Limits(cpu_seconds=0.1)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="macOS does not keep every limit, Windows none")


def body(*lines):
    return "\n    ".join(["def f(x):", *lines])


@functools.cache
def all_builtins():
    """Of a Python as bare as the child's."""
    command = [sys.executable, "-I", "-S", "-c", "import builtins; print(*dir(builtins))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def unlisted(source, cases=None, limits=QUICK):
    return sandbox._run(source, "f", sandbox._packed("f", cases or SQUARES), limits, all_builtins())


RIGHT = """
def f(words: list, least=2) -> dict:
    def size(word):
        return len([letter for letter in word if letter != " "])

    found, total = {}, 0
    for i, word in enumerate(sorted(set(words), key=lambda word: (-size(word), word))):
        if size(word) < least or word in ("", None):
            continue
        found[f"{i}:{word[::-1]:>4}"] = [size(word), word.upper().split("B")]
        total += size(word)
    while total % 7 and not total > 100:
        total -= -1
    first, *_ = [*range(total, 0, -1)]
    return {**found, "total": first / 2 if total else None}
"""


def test_right_programs_pass():
    wanted = {"0:  ba": [2, ["A", ""]], "total": 3.5}
    assert run_tests(RIGHT, "f", [((["ab", "ab", "c", " "],), wanted)]) == Verdict((True,), "right")
    assert run_tests("f = lambda x: x ** 2", "f", SQUARES).right
    values = [7, None, True, 1.5, "é\ud800"]
    assert run_tests(body(r"return [x, None, True, 1.5, 'é\ud800']"), "f", [((7,), values)]).right


@pytest.mark.parametrize(
    ("source", "passed", "reason"),
    [
        (body("return x + 6"), (True, False), "wrong: f(4) is 10, not 16"),
        (body("return x * x + 0.0"), (False, False), "wrong: f(3) is 9.0, not 9"),
        (body("return 9 if x == 3 else 16 / (x - 4)"), (True, False), "error: division by zero (ZeroDivisionError)"),
        (body("return y", "y = 3"), (False, False), "error: cannot access local variable 'y'"),
        (body("return 'é' * 60"), (False, False), f"wrong: f(3) is '{'é' * 46}..., not 9"),
        ("def g(x):\n    return x * x", (False, False), "error: there is no function f"),
        ("f = 9", (False, False), "error: there is no function f"),
        ("def f():\n    return 9", (False, False), "error: f() takes 0 positional arguments but 1 was"),
        ("return 9", (False, False), "error: 'return' outside function"),
        ("", (False, False), "error: there is no function f"),
    ],
)  # fmt: skip
def test_wrong_programs_get_a_reason(source, passed, reason):
    verdict = run_tests(source, "f", SQUARES)
    assert verdict.passed == passed and verdict.reason.startswith(reason) and not verdict.right


@pytest.mark.parametrize(
    ("result", "expected"),
    [("True", 1), ("1", True), ("0.0", 0), ("(1, 2)", [1, 2]), ("[1]", [True]), ("{'a': (1,)}", {"a": [1]}),
     ("{1: 1}", {"1": 1}), ("[1, 2]", [1]), ("{'a': 1, 'b': 2}", {"a": 1}), ("'1'", 1), ("None", False), ("{1}", [1]),
     ("float('nan')", float("nan")), ("x", "f"), ("f", 1)],
)  # fmt: skip
def test_results_agree_in_type_and_value(result, expected):
    assert run_tests(body(f"return {result}"), "f", [((0,), expected)]).passed == (False,)


IMPORTS = ["import os", "import os.path as p", "from os import system", "from . import x", "__import__('os')"]
DUNDERS = ["().__class__", "x.__class__.__base__.__subclasses__()", "f.__globals__", "f.__code__", "x.__dict__",
           "(lambda: 0).__globals__", "[].__len__", "x._private", "x.__class__.__init__.__globals__['os']",
           "__builtins__", "__name__", "_hidden"]  # fmt: skip
FRAMES = ["(n for n in x).gi_frame", "x.gi_code", "x.tb_frame", "x.cr_frame", "x.f_back", "x.f_globals", "x.mro()"]
FORMATS = ["'{0.__class__}'.format(x)", "'{x}'.format_map(x)", "str.format", "list(map(str.format, ['{0.a}'], [x]))",
           "f'{x.__class__}'", "f'{x:{x.__class__}}'", "f'{().__class__!r:>10}'", "f'{open}'"]  # fmt: skip
HIDDEN = ["(lambda: eval)()", "[open for i in [0]]", "{n: exec for n in x}", "(lambda n=id: n)()", "x if 0 else id",
          "sorted(x, key=print)", "(lambda *__x: 0)()", "(lambda **__x: 0)()", "dict(__x=1)", "f(**{'a': getattr})",
          "[__a for __a in x]", "x[open]", "x[0:vars]", "[*vars()]", "(yield)", "(n := 3)",
          "(yield from x)"]  # fmt: skip
LITERALS = ["b'bytes'", "3j", "...", str(10**18 + 1), f"'{'a' * 1001}'", "9" * 4400]


@pytest.mark.parametrize("expression", IMPORTS[-1:] + DUNDERS + FRAMES + FORMATS + HIDDEN + LITERALS)
def test_an_expression_that_leads_out_is_refused(expression):
    ast.parse(expression) if len(expression) < 4000 else None  # it is the list that refuses it, not the grammar
    for source in (body("x = 1", f"return {expression}"), body("def g():", f"    return {expression}", "return 9")):
        with pytest.raises(Refused, match="^line 3: "):
            check_source(source)
    assert run_tests(source, "f", SQUARES).reason.startswith("refused: line 3: ")


@pytest.mark.parametrize(
    "lines",
    [*([statement] for statement in IMPORTS[:4]), ["class A: pass"], ["class A:", "    def __eq__(a, b): return True"],
     ["global y"], ["try: x = 1", "except: pass"], ["with x: pass"], ["raise x"], ["assert x"], ["async def g(): pass"],
     ["@sorted", "def g(): pass"], ["@(lambda g: 9)", "def g(): pass"], ["x.append = 3"], ["del x.append"],
     ["x.append: int = 3"], ["for x.append in x: pass"], ["def __g(): pass"], ["def g(__x): pass"],
     ["def g(x: open): pass"], ["def g() -> open: pass"], ["y: open = 3"], ["for __y in x: pass"], ["nonlocal x"],
     ["match x:", "    case str(format=y): pass"], ["x @= x"], ["x = __y"], ["__y = x"], ["ｘ.__ｃlass__"]],
)  # fmt: skip
def test_a_statement_that_leads_out_is_refused(lines):
    source = body("y = 0", *lines, "return 9")
    ast.parse(source)
    with pytest.raises(Refused, match="^line [34]: "):
        check_source(source)


def test_no_builtin_is_reached_that_is_not_listed():
    closed = {*all_builtins(), "exit", "quit", "help"} - BUILTINS - {"None", "True", "False"}
    assert {"open", "eval", "exec", "compile", "getattr", "setattr", "vars", "type", "object", "super", "breakpoint",
            "print", "input", "globals", "locals", "memoryview", "BaseException", "format"} <= closed  # fmt: skip
    for name in closed:
        for source in (body(f"return {name}"), f"def f(x, y={name}):\n    return 9", f"f = lambda x: [{name}, x]"):
            with pytest.raises(Refused, match=f"{name}"):
                check_source(source)
    harmless = (str, list, dict, set, int, float)
    assert all(any(hasattr(kind, name) for kind in harmless) for name in METHODS)
    assert not any(name.startswith("_") for name in BUILTINS | METHODS)


@pytest.mark.parametrize("name", ["open", "eval", "getattr", "type"])
def test_a_name_of_their_own_is_not_the_builtin(name):
    """A variable may be called `open`; it is then never the real one, wherever it is bound."""
    assert run_tests(body(f"{name} = x", f"return {name} * {name}"), "f", SQUARES).right
    for binding in (f"[0 for {name} in x]", f"lambda {name}: x", f"def g({name}): return {name}"):
        verdict = run_tests(body(binding, f"return {name}(x)"), "f", [(([1],), 1)])
        assert verdict.reason.startswith(f"error: name '{name}' is not defined"), verdict


@pytest.mark.parametrize(
    "source",
    [None, 3, b"f = abs", ["f"], "f = (", "  f = 3", "x\0", "\ud800", "def f(x) return x", "f = " + "(" * 4900, "`",
     "f = " + "-" * 4900 + "1", "f = " + "[" * 4900, "x = 3\n" * 1000, "f'{" * 1600, "\\", "'", "f = 0777", "\t if"],
)  # fmt: skip
def test_what_is_no_program_is_refused(source):
    with pytest.raises(Refused):
        check_source(source)
    verdict = run_tests(source, "f", SQUARES)
    assert verdict.passed == (False, False)
    assert verdict.reason.startswith("refused: ") and "line None" not in verdict.reason


@pytest.mark.parametrize(
    "expression",
    ["1+" * 2400 + "1", "x" + "[0]" * 1600, "x" + "()" * 2400, "lambda:" * 690 + "1", "not " * 1200 + "x",
     "x<" * 2400 + "x", "1if x else " * 440 + "1", "(" * 90 + ")" * 90],
)  # fmt: skip
def test_deep_syntax_does_no_harm(expression):
    verdict = run_tests(body(f"return {expression}"), "f", [((1,), "never")])
    assert verdict.passed == (False,) and verdict.reason.split(":")[0] in ("refused", "error", "wrong", "died")


# what runs too long, and what it is stopped by
ENDLESS = {
    "loop": body("while True:", "    pass"),
    "loop in C": body("return max(range(10**12))"),
    "huge power": body("return 10**10**10"),
    "huge shift and square": body("x = 7 ** 99999", "while 1: x = x * x % (1 << 90000)"),
    "endless generator": body("return sum(0 for n in iter(int, 1))"),
    "nested generators": body("return sum(1 for a in range(10**5) for b in range(10**5) for c in range(10**5))"),
    "at module level": "while True: pass\nf = abs",
    "slow text": body("return [str(7 ** 1200)] * 0 or [0 for n in iter(lambda: str(7 ** 1200), 1)]"),
}
GREEDY = {
    "text": body("return 'a' * 10**10"),
    "list": body("return [0] * 10**10"),
    "integer": body("return 1 << 10**11"),
    "doubling": body("x = [x]", "while True:", "    x = x + x"),
    "list of a range": body("return list(range(10**10))"),
    "comprehension": body("return [n for n in range(10**10)]"),
    "join": body("return ('a' * 10**6).join(['b'] * 10**5)"),
    "padding": body("return 'a'.ljust(10**10)"),
    "format width": body("return f'{x:{10**9}}'"),
    "replace": body("return ('a' * 10**5).replace('a', 'b' * 10**5)"),
    "set": body("return len({n for n in range(10**9)})"),
}


@LINUX
@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_stopped_by_its_cpu_time(source):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run_tests(source, "f", SQUARES, QUICK) == Verdict((False, False), "time: more than 0.1 s of CPU")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert 0.08 < after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@LINUX
@pytest.mark.parametrize("source", GREEDY.values(), ids=GREEDY)
def test_what_grows_without_end_is_stopped_by_its_memory(source):
    verdict = run_tests(source, "f", SQUARES[:1], Limits(cpu_seconds=5, memory_mib=64))
    assert verdict == Verdict((False,), "memory: it asked for more than it may have")


def test_cases_before_the_endless_one_keep_their_verdict():
    source = body("if x == 3: return 9", "while True: pass")
    assert run_tests(source, "f", [*SQUARES, ((3,), 9)], QUICK).passed == (True, False, False)


@pytest.mark.parametrize(
    "lines",
    [["return f(x)"], ["g = lambda n: f(n)", "return g(x)"], ["return sorted([1, 2], key=f)"],
     ["return list(map(f, [1]))"],
     ["for n in range(10**5): x = [x]", "return x"], ["for n in range(10**5): x = [x]", "return str(x)"],
     ["x = []", "x.append(x)", "return x"], ["x = {}", "x['a'] = x", "return x"],
     ["x = iter([0])", "for n in range(10**5): x = map(int, x)", "return list(x)"],
     ["x = [[]]", "for n in range(500): x = [x]", "return x == [x]"]],
)  # fmt: skip
@pytest.mark.parametrize("expected", [9, [[[]]], {"a": {"a": {}}}])
def test_deep_recursion_and_values_without_end_are_wrong(lines, expected):
    verdict = run_tests(body(*lines), "f", [((3,), expected)], QUICK)
    assert verdict.passed == (False,) and verdict.reason.split(":")[0] in ("error", "wrong", "died", "memory", "time")


def test_a_reason_is_short():
    texts = ["a" * 999] * 9
    for source in ("f = lambda *x: [x]", "f = lambda *x: {}[x]"):
        assert len(run_tests(source, "f", [(texts, texts)]).reason) <= 160


def test_arguments_and_state_are_fresh_for_every_case():
    shared = [3, 1]
    cases = [((shared, shared), shared), ((shared, shared), shared)]
    changed = "def f(x, y):\n    x.append(1)\n    return "
    assert run_tests(changed + "x", "f", cases).passed == (False, False)
    assert run_tests(changed + "y", "f", [(([], []), [])] * 2).passed == (True, True)
    assert shared == [3, 1], "the caller's values are never touched"
    for memory in ("calls = []\ndef f(x):", "def f(x, calls=[]):"):
        counter = f"{memory}\n    calls.append(x)\n    return len(calls)"
        assert run_tests(counter, "f", [((0,), 1), ((0,), 2)]).passed == (True, False)


EQUAL = "class Yes({}):\n    __eq__ = lambda self, other: True\n    __hash__ = lambda self: hash('a')\n"


@pytest.mark.parametrize(
    ("base", "value", "expected"),
    [("", "Yes()", 9), ("int", "Yes()", 9), ("list", "Yes()", [9]), ("dict", "Yes()", {"a": 9}), ("", "[Yes()]", [9]),
     ("", "{'a': Yes()}", {"a": 9}), ("", "{Yes(): 9}", {"a": 9}), ("str", "{Yes('a'): 9}", {"a": 9}),
     ("str", "Yes('b')", "a")],
)  # fmt: skip
def test_a_comparison_cannot_be_overridden(base, value, expected):
    source = EQUAL.format(base) + body(f"return {value}")
    assert run_tests(source, "f", [((0,), expected)]).reason == "refused: line 1: ClassDef is not allowed"
    assert unlisted(source, [((0,), expected)]).reason.startswith("wrong: ")


OUTSIDE = {
    "file": "open('/tmp/x', 'w').write('x')",
    "low-level file": "os.write(os.open('x', os.O_CREAT | os.O_WRONLY), b'x')",
    "reading": "open(os.__file__).read()",
    "socket": "__import__('_socket').socket()",
    "pipe": "os.pipe()",
    "folder": "os.listdir('/')",
    "module": "__import__('json')",
    "more of a stream": "os.dup(1)",
}


@LINUX
@pytest.mark.parametrize("call", OUTSIDE.values(), ids=OUTSIDE)
def test_behind_the_list_nothing_can_be_opened(call):
    source = body("import os", f"{call}", "return x * x")
    verdict = unlisted(source)
    assert verdict.passed == (False, False) and "Error)" in verdict.reason, verdict
    assert run_tests(source, "f", SQUARES).reason == "refused: line 2: Import is not allowed"


@LINUX
def test_behind_the_list_the_limits_are_set():
    names = ["FSIZE", "NOFILE", "NPROC", "CORE", "CPU", "AS"]
    source = body("import resource", "return [list(resource.getrlimit(getattr(resource, 'RLIMIT_' + n))) for n in x]")
    wanted = [[0, 0], [0, 0], [0, 0], [0, 0], [2, 2], [256 * 2**20] * 2]
    assert unlisted(source, [((names,), wanted)]) == Verdict((True,), "right")


@LINUX
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["while 1:", "    try:", "        while 1: pass", "    except BaseException: pass"], "time: more than 0.1 s"),
        (["return bytearray(10**10)"], "memory: "),
        (["import os", "os._exit(0)"], "died: exit status 0"),
        (["import os", "os.kill(os.getpid(), 9)"], "died: exit status -9"),
        (["import os", "os.abort()"], "died: exit status -6"),
        (["import sys", "sys.exit(3)"], "error: 3 (SystemExit)"),
        (["raise KeyboardInterrupt('\\n\\n')"], "error: (KeyboardInterrupt)"),
        (["raise ValueError('\\ud800')"], "error: \\ud800 (ValueError)"),
        (["import sys", "sys.setrecursionlimit(10**9)", "return f(x)"], ("memory: ", "time: ", "died: ")),
        (["class E(Exception):", "    __str__ = lambda self: 1 / 0", "raise E"], "error: something that cannot be"),
        (["class R:", "    __repr__ = lambda self: self", "return R()"], "wrong: f(3) is something that cannot"),
    ],
)  # fmt: skip
def test_behind_the_list_a_way_to_end_badly_is_told(lines, reason):
    verdict = unlisted(body(*lines))
    assert verdict.passed == (False, False) and verdict.reason.startswith(reason), verdict


def test_behind_the_list_a_sleeper_is_stopped_by_the_clock():
    verdict = unlisted(body("import time", "time.sleep(500)"), limits=Limits(wall_seconds=1))
    assert verdict == Verdict((False, False), "time: more than 1 s")


WRITE = ["import os, sys", "for stream in range(3, 99):", "    try:", "        {}", "    except OSError: pass",
         "return 0"]  # fmt: skip


@LINUX
@pytest.mark.parametrize(
    "call",
    [r"os.write(stream, b'0' * 32 + b' \n')", r"os.write(stream, b' \n' * 2), os._exit(0)", "os.write(stream, b'yes')"],
)
def test_behind_the_list_a_verdict_without_the_token_is_not_believed(call):
    verdict = unlisted(body(*WRITE).format(call))
    assert verdict == Verdict((False, False), "died: it wrote what is no verdict")


@LINUX
def test_behind_the_list_a_flood_is_not_read(monkeypatch):
    read, converse = [], sandbox._converse
    monkeypatch.setattr(sandbox, "_converse", lambda *args: read.append(converse(*args)) or read[-1])
    verdict = unlisted(body(*WRITE).format("[os.write(stream, b'0' * 10**5) for n in range(10**6)]"))
    assert verdict == Verdict((False, False), "died: it wrote what is no verdict") and len(read[0][0]) == 3000
    chatter = unlisted(body("for n in range(99): print('9' * 99, flush=True)", "return x * x"))
    assert chatter.right and len(read[1][0]) < 200, "what is printed goes nowhere"


def test_only_the_list_keeps_a_verdict_from_being_forged():
    """Why the module says that it is no security boundary: with `sys` at hand, the token lies a frame away."""
    forger = body("import os, sys", "frame = sys._getframe()",
                  "while 'token' not in frame.f_locals: frame = frame.f_back",
                  "line = frame.f_locals['token'] + ' \\n'",
                  "os.write(frame.f_locals['channel'], (line * 2).encode())", "os._exit(0)")  # fmt: skip
    assert unlisted(forger).right
    assert unlisted(forger.replace("line * 2", "line * 3")).passed == (False, False), "one line too many"
    assert run_tests(forger, "f", SQUARES).reason == "refused: line 2: Import is not allowed"


@LINUX
def test_nothing_is_handed_down(monkeypatch, tmp_path):
    """No environment, no open file, no folder but an empty one that is gone afterwards."""
    monkeypatch.setenv("TOKEN", "secret")
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        source = body("import os, sys", "def is_open(n):", "    try: return bool(os.fstat(n))",
                      "    except OSError: return False", "return ['TOKEN' in os.environ, 'torch' in sys.modules,",
                      "    [n for n in range(99) if is_open(n)], os.getcwd() == x]")  # fmt: skip
        assert unlisted(source, [((os.getcwd(),), [False, False, [0, 1, 2, 3], False])]) == Verdict((True,), "right")
    where = unlisted(body("import os", "return os.getcwd()")).reason.split("'")[1]
    assert where.startswith("/") and not Path(where).exists()


@LINUX
def test_no_process_is_left(monkeypatch):
    """The one process that this submission starts (as root; others may start none) ends with its group."""
    folders, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, cwd, **k: folders.append(cwd) or start(*a, cwd=cwd, **k))
    source = body("import os, time", "if x == 4 and os.fork() == 0: time.sleep(500)", "return x * x")
    verdict = unlisted(source, limits=Limits(wall_seconds=1))
    assert verdict.right if os.getuid() == 0 else verdict.passed == (True, False)
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            assert not os.readlink(process / "cwd").startswith(folders[0]), process


def test_an_interrupt_leaves_no_process(monkeypatch):
    children, start = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: children.append(start(*a, **k)) or children[-1])

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sandbox.threading.Thread, "join", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_tests(body("while True: pass"), "f", SQUARES)
    assert children[0].returncode == -signal.SIGKILL


def test_a_time_limit_does_not_hang_on_what_the_caller_ignores():
    if sys.platform == "win32":
        pytest.skip("no such signal")
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    try:
        assert run_tests(body("while True: pass"), "f", SQUARES, QUICK).reason == "time: more than 0.1 s of CPU"
    finally:
        signal.signal(signal.SIGPROF, before)


WORDS = ["def f(x):\n    ", "return ", "x", "f", "(", ")", "[", "]", "{", "}", ":", ",", ".", "=", "+", "*", "**", "9",
         "'", '"', "\n", "    ", "lambda ", "for ", " in ", "if ", " else ", "while ", "_", "__class__", "range",
         "open", "é", "\\", "f'", "0x", "import ", "@", "...", "yield ", "class A", "\0", "😀", "# ", "not ", "async ",
         ";", "->"]  # fmt: skip


@settings(max_examples=200)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join) | st.text(max_size=60))
def test_random_text_is_checked_or_refused(source):
    try:
        assert check_source(source) is None
    except Refused as refused:
        assert str(refused)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(WORDS[:34]), max_size=10).map(lambda words: "def f(x):\n    return " + "".join(words)))
def test_random_programs_get_a_verdict(source):
    verdict = run_tests(source, "f", SQUARES, QUICK)
    assert len(verdict.passed) == 2 and (verdict.right or ": " in verdict.reason)


def test_the_childs_verdict_by_hand():
    def fault(source, arguments, expected):
        return sandbox_child.fault_of(source, "f", BUILTINS, marshal.dumps(arguments), marshal.dumps(expected))

    assert fault("f = abs", (-3,), 3) == "" and fault("f = abs", (-3,), 4) == "wrong: f(-3) is 3, not 4"
    assert fault("f = open", (3,), 3) == "error: name 'open' is not defined (NameError)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run_tests("", "f", []), "cases: none"),
        (lambda: run_tests("", "f", [3]), r"cases: 3, expected a pair"),
        (lambda: run_tests("", "f", [(3, 9)]), r"cases: \(3, 9\), expected a pair"),
        (lambda: run_tests("", "f", [((3,), (9,))]), "expected JSON-like values"),
        (lambda: run_tests("", "f", [(({3},), 9)]), "expected JSON-like values"),
        (lambda: run_tests("", "f", [(({3: 4},), 9)]), "expected JSON-like values"),
        (lambda: run_tests("", "f()", SQUARES), r"function = 'f\(\)': expected a name"),
        (lambda: run_tests("", 3, SQUARES), "function = 3: expected a name"),
        (lambda: Limits(cpu_seconds=0), "cpu_seconds = 0: expected a number above 0"),
        (lambda: Limits(cpu_seconds=float("inf")), "cpu_seconds = inf: expected a number above 0, and"),
        (lambda: Limits(memory_mib=10**20), "memory_mib = 1"),
        (lambda: run_tests("", "f", None), "cases = None: expected a list of pairs"),
        (lambda: run_tests("", "f", [((functools.reduce(lambda x, _: [x], range(5000), 1),), 1)]), "a value too deep"),
        (lambda: Limits(memory_mib=-1), "memory_mib = -1: expected a number above 0"),
    ],
)
def test_bad_cases_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
