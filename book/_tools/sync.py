"""Keep the chapters' marked cells equal to the package.

    python book/_tools/sync.py check            compare every marked cell with the package's source
    python book/_tools/sync.py write            rewrite the cells that differ

A marked cell names what it defines on its first line and holds nothing else:

    # dsmini.model.mla: LatentAttention              a class, a function or a constant
    # dsmini.model.mla: LatentAttention.absorbed     one method, written as a plain function
    # dsmini.model.layers: rotate, apply_rope        several, in this order

Code is compared as a syntax tree: comments, docstrings and blank lines are the chapter's own.
"""

import argparse
import ast
import difflib
import re
import sys
import textwrap
from pathlib import Path

import nbformat

from notebooks import ROOT, cell_name, chapters, short, write

MARKER = re.compile(r"#\s*dsmini[.\w]*\s*:")
WELL_FORMED = re.compile(r"# (dsmini(?:\.\w+)*): (\w+(?:\.\w+)*(?:, \w+(?:\.\w+)*)*)")


class SyncError(Exception):
    """A marked cell that cannot be compared; the message says what to change."""


def parse_marker(source):
    """(module, names) of a marked cell, None for any other cell."""
    lines = source.splitlines()
    marked = [number for number, line in enumerate(lines, 1) if MARKER.match(line)]
    if not marked:
        return None
    match = WELL_FORMED.fullmatch(lines[marked[0] - 1].rstrip())
    if marked != [1] or not match:
        raise SyncError(
            f"the marker {lines[marked[0] - 1]!r} stands on line {marked[0]}; expected once, on the first line, "
            "as '# dsmini.module: Name' or '# dsmini.module: Class.method, other_name'"
        )
    return match.group(1), match.group(2).split(", ")


def defined_names(node):
    """The names that a statement binds."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def find(tree, dotted, module):
    """The statement that defines `dotted` in a module's tree."""
    body, node = tree.body, None
    for part in dotted.split("."):
        node = next((candidate for candidate in body if part in defined_names(candidate)), None)
        if node is None:
            raise SyncError(f"{module} defines no {dotted}")
        body = getattr(node, "body", [])
    return node


def module_source(package_root, module):
    stem = Path(package_root, *module.split("."))
    for path in (stem.with_suffix(".py"), stem / "__init__.py"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise SyncError(f"there is no module {module}")


def without_docstrings(node):
    """A copy of a statement that lacks what the reader may see otherwise: its docstrings."""
    node = ast.parse(ast.unparse(node)).body[0]
    for inner in ast.walk(node):
        if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = inner.body[0]
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                inner.body = inner.body[1:] or [ast.Pass()]
    return node


def normal_form(nodes):
    return "\n\n".join(ast.unparse(without_docstrings(node)) for node in nodes).splitlines()


def own_text(source, node):
    """The lines of a definition with its decorators and comments, at the left margin."""
    start = min([node.lineno] + [decorator.lineno for decorator in getattr(node, "decorator_list", [])])
    return textwrap.dedent("\n".join(source.splitlines()[start - 1 : node.end_lineno]))


def compare(source, package_root=ROOT):
    """(package's text, diff lines) of a marked cell; (None, []) for any other cell."""
    marker = parse_marker(source)
    if marker is None:
        return None, []
    module, names = marker
    theirs = module_source(package_root, module)
    tree = ast.parse(theirs)
    nodes = [find(tree, name, module) for name in names]
    try:
        cell = ast.parse(source)
    except SyntaxError as error:
        raise SyncError(f"the cell is not plain Python: {error}") from None
    diff = difflib.unified_diff(
        normal_form(cell.body), normal_form(nodes), "cell", f"{module}: {', '.join(names)}", lineterm=""
    )
    gap = "\n\n" if all("." in name for name in names) else "\n\n\n"
    package_text = source.splitlines()[0] + "\n" + gap.join(own_text(theirs, node) for node in nodes)
    return package_text, list(diff)


def check(path, package_root=ROOT):
    """One message for each marked cell of a notebook that differs from the package."""
    notebook = nbformat.read(path, as_version=4)
    messages = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        where = f"{short(path)}, {cell_name(notebook, index)}"
        try:
            _, diff = compare(cell.source, package_root)
        except SyncError as error:
            messages.append(f"{where}: {error}")
            continue
        if diff:
            messages.append("\n".join([f"{where}: differs from the package", *diff]))
    return messages


def rewrite(path, package_root=ROOT):
    """Replace the marked cells that differ; returns the names of the cells written."""
    notebook = nbformat.read(path, as_version=4)
    changed = []
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        try:
            text, diff = compare(cell.source, package_root)
        except SyncError as error:
            raise SyncError(f"{short(path)}, {cell_name(notebook, index)}: {error}") from None
        if diff:
            cell.source = text
            changed.append(f"{short(path)}, {cell_name(notebook, index)}")
    if changed:
        write(notebook, path)
    return changed


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["check", "write"])
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args(argv)
    paths = arguments.paths or chapters()
    try:
        if arguments.command == "check":
            messages = [message for path in paths for message in check(path)]
            print("\n\n".join(messages) or f"{len(paths)} notebooks agree with the package")
            return 1 if messages else 0
        changed = [line for path in paths for line in rewrite(path)]
    except SyncError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(f"rewrote {line}" for line in changed) or "every marked cell already agrees with the package")
    if changed:
        print("Run `make notebooks` so that their outputs follow.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
