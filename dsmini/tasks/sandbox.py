"""Whether a program that a model wrote is right: refused by its syntax, or run on test cases in a process of its own.

A submission may use what `NODES`, `BUILTINS` and `METHODS` list and nothing else, and it runs with limits on time,
memory and files. This is no security boundary. In CPython every object leads to every other: two attributes take a
tuple to `object`, whose subclasses lead to `os`, so one path that the lists overlook, or one bug in the interpreter,
undoes them all. Programs that somebody wants to be harmful belong behind another kernel: a virtual machine (as
Firecracker), gVisor, or at the very least a container without a network and without rights.
"""

import ast
import contextlib
import dataclasses
import marshal
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

MAX_SOURCE = 5000  # characters
MAX_TEXT = 1000  # characters of one literal
MAX_NUMBER = 10**18  # of a literal
_MOST = 1_000_000  # of any limit: more than a week, or a terabyte


def _names(text):
    return frozenset(text.split())


NODES = _names("""
    Module FunctionDef Lambda arguments arg Return Expr Pass Assign AnnAssign AugAssign Delete
    If IfExp For While Break Continue
    Name Load Store Del Constant List Tuple Dict Set Subscript Slice Starred Attribute Call keyword
    ListComp SetComp DictComp GeneratorExp comprehension JoinedStr FormattedValue
    BoolOp And Or UnaryOp Not UAdd USub Invert
    BinOp Add Sub Mult Div FloorDiv Mod Pow LShift RShift BitOr BitXor BitAnd
    Compare
""") | {comparison.__name__ for comparison in ast.cmpop.__subclasses__()}
BUILTINS = _names("""
    abs all any bin bool chr dict divmod enumerate filter float frozenset hex int isinstance iter len list map max min
    next oct ord pow range repr reversed round set slice sorted str sum tuple zip
""")
# no format and no format_map: "{0.__class__}".format(x) reads attributes that no rule on syntax sees
METHODS = _names("""
    capitalize casefold center count endswith find index isalnum isalpha isdecimal isdigit islower isspace istitle
    isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust rpartition rsplit
    rstrip split splitlines startswith strip swapcase title upper zfill
    append clear copy extend insert pop remove reverse sort
    fromkeys get items keys popitem setdefault update values
    add difference discard intersection isdisjoint issubset issuperset symmetric_difference union
    bit_count bit_length is_integer
""")

_CHILD = str(Path(__file__).with_name("sandbox_child.py"))
_TIME_SIGNALS = {-getattr(signal, name) for name in ("SIGPROF", "SIGXCPU") if hasattr(signal, name)}


class Refused(ValueError):
    """A source that is not even run. Says which line and why."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one submission may use, all its cases together.

    cpu_seconds: from its first instruction; memory_mib: its address space, Python's own 20 MiB included;
    wall_seconds: the whole process. On Windows only the last one holds, on macOS not the memory.
    """

    cpu_seconds: float = 0.5
    wall_seconds: float = 10.0
    memory_mib: int = 256

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0 < value <= _MOST:
                raise ValueError(f"{name} = {value!r}: expected a number above 0, and {_MOST:,} at most")


LIMITS = Limits()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """passed: a bool for each case. reason: "right", or what is wrong with the first case that failed.

    It begins with one of refused, wrong, error, time, memory, died and a colon.
    """

    passed: tuple
    reason: str

    @property
    def right(self):
        return all(self.passed)


def check_source(source):
    """Raises Refused, naming line and reason, unless all of a source is on the lists of what is allowed."""
    if not isinstance(source, str):
        raise Refused(f"source: a {type(source).__name__}, expected text")
    if len(source) > MAX_SOURCE:
        raise Refused(f"source: {len(source)} characters, expected {MAX_SOURCE} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        raise Refused(f"line {error.lineno or 1}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise Refused(f"source: cannot be parsed, {error or type(error).__name__}") from None
    bound = _bound_names(tree)
    for node, line in _walk(tree):
        objection = _objection(node, bound)
        if objection:
            raise Refused(f"line {line}: {objection}")


def _walk(tree):
    """Every node in the order of the source, with its line. No recursion: the tree is as deep as a submission likes."""
    stack = [(tree, 1)]
    while stack:
        node, line = stack.pop()
        yield node, line
        children = list(ast.iter_child_nodes(node))
        stack += [(child, getattr(child, "lineno", line)) for child in reversed(children)]


def _bound_names(tree):
    """The names that a source gives to something itself: variables, parameters, functions."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def _objection(node, bound):
    """Why a node is not allowed, or None."""
    if type(node).__name__ not in NODES:
        return f"{type(node).__name__} is not allowed"
    for field in ("id", "name", "arg", "attr"):
        name = getattr(node, field, None)
        if isinstance(name, str) and name.startswith("_") and name != "_":
            return f"the name {name} begins with an underscore"
    if isinstance(node, ast.Name) and node.id not in bound and node.id not in BUILTINS:
        return f"the name {node.id} is not allowed"
    if isinstance(node, ast.Attribute) and node.attr not in METHODS:
        return f"the attribute {node.attr} is not allowed"
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
        return "an attribute may be read, not changed"
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        return "a decorator is not allowed"
    if isinstance(node, ast.Constant):
        return _literal_objection(node.value)
    return None


def _literal_objection(value):
    if not (value is None or isinstance(value, bool | int | float | str)):
        return f"a literal {type(value).__name__} is not allowed"
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"a text of {len(value)} characters, expected {MAX_TEXT} at most"
    if isinstance(value, int) and value > MAX_NUMBER:
        return f"a number above {MAX_NUMBER}"
    return None


def run_tests(source, function, cases, limits=LIMITS):
    """Call a submission's function on every case: a `Verdict`, whatever the submission does.

    source: its text. function: the name to call. cases: pairs (arguments, expected); arguments is a list or tuple, and
    all values are JSON-like: None, bool, int, float, str, lists and dicts of them with text as keys. Results must agree
    in type too: True is not 1, a tuple is not a list. What leans on the order of a set of texts may pass once and fail
    once, for texts hash differently in every process. Raises ValueError for cases that are none, never for a source.
    """
    packed = _packed(function, cases)
    try:
        check_source(source)
    except Refused as refused:
        return Verdict((False,) * len(packed), f"refused: {refused}")
    return _run(source, function, packed, limits, BUILTINS)


def _packed(function, cases):
    """The cases in bytes. One by one: `marshal` keeps shared objects shared, and arguments may be changed by a call."""
    if not (isinstance(function, str) and function.isidentifier()):
        raise ValueError(f"function = {function!r}: expected a name")
    if not isinstance(cases, list | tuple):
        raise ValueError(f"cases = {cases!r}: expected a list of pairs (arguments, expected)")
    packed = []
    for case in cases:
        if not (isinstance(case, list | tuple) and len(case) == 2 and isinstance(case[0], list | tuple)):
            raise ValueError(f"cases: {case!r}, expected a pair (arguments, expected)")
        arguments, expected = case
        try:
            plain = _is_json(list(arguments)) and _is_json(expected)
        except RecursionError:  # it holds itself, or is as deep as that
            raise ValueError("cases: a value too deep to be written down, expected JSON-like values") from None
        if not plain:
            raise ValueError(f"cases: {case!r}, expected JSON-like values")
        packed.append((marshal.dumps(tuple(arguments)), marshal.dumps(expected)))
    if not packed:
        raise ValueError("cases: none, and who is asked nothing is never wrong")
    return packed


def _is_json(value):
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str for key in value) and all(map(_is_json, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def _run(source, function, packed, limits, builtins):
    """The part behind `check_source`, which tests call alone, with more builtins, to see that the limits hold too."""
    token = secrets.token_hex(16)  # a line without it is not the child's own
    allowance = (float(limits.cpu_seconds), int(limits.memory_mib * 2**20))
    job = marshal.dumps((token, source, function, sorted(builtins), packed, allowance))
    said, late, status = _converse(job, limits.wall_seconds, 1000 * (len(packed) + 1))
    *lines, rest = said.decode("utf-8", "replace").split("\n")
    reports = [line.partition(" ") for line in lines]
    if rest or len(reports) > len(packed) or any(mark != token for mark, _, _ in reports):
        return Verdict((False,) * len(packed), "died: it wrote what is no verdict")
    faults = [fault for _, _, fault in reports]
    if late:
        end = f"time: more than {limits.wall_seconds} s"
    elif status in _TIME_SIGNALS:
        end = f"time: more than {limits.cpu_seconds} s of CPU"
    else:
        end = f"died: exit status {status}"
    faults += [end] * (len(packed) - len(faults))
    return Verdict(tuple(not fault for fault in faults), next(filter(None, faults), "right"))


def _converse(job, seconds, most):
    """Start the child, hand it the job, hear it out: (at most `most` bytes, whether time ran out, exit status).

    The child leads a process group, and the group ends with it. It is killed before its leader is reaped: until then
    the group's number cannot be given to another.
    """
    said = bytearray()

    def listen():
        while part := child.stdout.read(most - len(said)):  # of 0 bytes: nothing, and that is the end
            said.extend(part)

    with tempfile.TemporaryFile() as paper, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        paper.write(job)
        paper.seek(0)
        environment = {"SYSTEMROOT": os.environ["SYSTEMROOT"]} if os.name == "nt" else {}
        child = subprocess.Popen([sys.executable, "-I", "-S", _CHILD], stdin=paper, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, bufsize=0, cwd=folder, env=environment,
                                 start_new_session=True)  # fmt: skip
        listener = threading.Thread(target=listen, daemon=True)
        try:
            listener.start()
            listener.join(seconds)
            late = listener.is_alive()
        finally:
            _kill_group(child)
            status = child.wait()
        listener.join(1)
        if not listener.is_alive():
            child.stdout.close()
    return bytes(said), late, status


def _kill_group(child):
    child.kill()
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says so of a group that is dead
            os.killpg(child.pid, signal.SIGKILL)
