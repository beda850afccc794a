"""Run the chapters and write them back in one canonical form.

    python book/_tools/notebooks.py run [chapters/02_mla.ipynb ...]

Each notebook gets a fresh kernel. What the next run would change without a reason (widget state, progress bars, random
ids, timings in metadata) is not written, so a diff shows what the author changed. The kernel's own CPU seconds and peak
memory go into the notebook's metadata and into its "cost" cell. A notebook that raises or is over its budget stays as
it was. The tests measure with the same functions (tests/notebooks/conftest.py).
"""

import argparse
import base64
import io
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, NbvalKernelspecManager
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).parents[2]

TOTAL_CPU_SECONDS = 1020  # all chapters together
DEFAULT_CPU_SECONDS = 90  # one chapter, unless its metadata says otherwise
DEFAULT_MIB = 1536
CELL_TIMEOUT = 180  # wall seconds: a stuck cell, not a slow machine
STEADY, STEADY_SECONDS = 0.2, 1.0  # recorded figures stay while a new run is within 20 % or one second
SLACK_SECONDS, SLACK_MIB = 2.0, 1.25  # how far a test run may be above the recorded figures

KEPT_NOTEBOOK_METADATA = {"dsmini", "mystnb"}
KEPT_CELL_METADATA = {"mystnb", "nbgrader", "tags"}
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}\b")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
PROGRESS_BAR = re.compile(r"\d+%\|.*\||\d+(\.\d+)?(it/s|s/it)\b|^\d+it \[")


class NotebookError(Exception):
    """A chapter that cannot be written; the message says which, where and why."""


@dataclass(frozen=True)
class Cost:
    """What a kernel used."""

    cpu_seconds: float
    mib: float

    def __str__(self):
        return f"{self.cpu_seconds:.1f} CPU-s, {self.mib:.0f} MiB"


def chapters():
    return sorted((ROOT / "chapters").glob("*.ipynb"))


def short(path):
    """The path as a reader knows it: from the book's root."""
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def measure(pid):
    """CPU seconds and peak memory of a running process, with the children it has waited for."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    cpu = times.user + times.system + getattr(times, "children_user", 0) + getattr(times, "children_system", 0)
    return Cost(round(cpu, 2), peak_bytes(process) / 2**20)


def peak_bytes(process):
    """The highest resident size so far; macOS only tells the present one."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text()).group(1)) * 1024
    memory = process.memory_info()
    return getattr(memory, "peak_wset", memory.rss)


def budget(notebook):
    facts = notebook.metadata.get("dsmini", {})
    return Cost(facts.get("budget_cpu_seconds", DEFAULT_CPU_SECONDS), facts.get("budget_mib", DEFAULT_MIB))


def recorded(notebook):
    """The figures of the last run, or None."""
    facts = notebook.metadata.get("dsmini", {})
    return Cost(facts["cpu_seconds"], facts["peak_mib"]) if "cpu_seconds" in facts and "peak_mib" in facts else None


def complaints(name, cost, seconds, mib, limit):
    """One sentence for each figure above its limit."""
    found = []
    if cost.cpu_seconds > seconds:
        found.append(f"{name} used {cost.cpu_seconds:.1f} CPU-s, {limit} {seconds:.1f}")
    if cost.mib > mib:
        found.append(f"{name} peaked at {cost.mib:.0f} MiB, {limit} {mib:.0f}")
    return found


def over_budget(name, cost, allowed):
    return complaints(name, cost, allowed.cpu_seconds, allowed.mib, "its budget is")


def over_recorded(name, cost, old):
    """Compare a test run with the figures recorded in the notebook."""
    if old is None:
        return [f"{name} has no recorded cost: run `make notebooks`"]
    limit = f"recorded are {old}; the limit is"
    return complaints(name, cost, SLACK_SECONDS * old.cpu_seconds, SLACK_MIB * old.mib, limit)


def over_total(costs):
    total = sum(cost.cpu_seconds for cost in costs)
    if total > TOTAL_CPU_SECONDS:
        return [f"all notebooks together used {total:.0f} CPU-s, their budget is {TOTAL_CPU_SECONDS}"]
    return []


# Canonical form


def tidy_text(text):
    """What a terminal would show in the end: carriage returns overwrite, progress bars vanish."""
    lines = []
    for line in text.split("\n"):
        last = [part for part in line.split("\r") if part] or [""]
        lines.append(last[-1])
    return "\n".join(line for line in lines if not PROGRESS_BAR.search(line))


def compact_png(encoded):
    """A figure (PNG in base64) with a palette of at most 256 colours: a third of the bytes, to the eye the same."""
    figure = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if figure.mode == "P":
        return encoded
    data = io.BytesIO()
    figure.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(data, "png", optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def tidy_outputs(outputs):
    """Merge streams; drop progress bars, widget views and addresses in a repr (both are random)."""
    kept, streams = [], {}
    for output in outputs:
        if output.output_type == "stream":
            if output.name in streams:
                streams[output.name].text += output.text
                continue
            streams[output.name] = output
        elif "data" in output:
            output.data.pop("application/vnd.jupyter.widget-view+json", None)
            if "image/png" in output.data:
                output.data["image/png"] = compact_png(output.data["image/png"])
            if "text/plain" in output.data:
                output.data["text/plain"] = ADDRESS.sub("", output.data["text/plain"])
            if not output.data or PROGRESS_BAR.search(output.data.get("text/plain", "")):
                continue
        kept.append(output)
    for output in streams.values():
        output.text = tidy_text(output.text)
    return [output for output in kept if output.output_type != "stream" or output.text.strip()]


def canonical(notebook):
    """Strip whatever changes from run to run; number cells and ids in order where none is set."""
    kept = {key: notebook.metadata[key] for key in sorted(KEPT_NOTEBOOK_METADATA & notebook.metadata.keys())}
    notebook.metadata = nbformat.from_dict(
        kept
        | {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    count = 0
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in sorted(KEPT_CELL_METADATA & cell.metadata.keys())}
        )
        cell.setdefault("id", f"cell-{number:03d}")
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = tidy_outputs(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = count
    return notebook


def write(notebook, path):
    """Replace the file in one step, so that a crash never leaves half a chapter."""
    nbformat.validate(notebook)
    temporary = Path(path).with_suffix(".tmp")
    temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
    os.replace(temporary, path)


# Running


@contextmanager
def single_thread():
    """One thread a kernel: on a shared machine more threads only burn CPU seconds."""
    old = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if old is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = old


def cell_name(notebook, index):
    first = (notebook.cells[index].source.strip().splitlines() or ["empty"])[0]
    return f"cell {index + 1} ({first[:60]})"


def execute(notebook, path):
    """Run every cell in a fresh kernel of this Python; returns what the kernel used."""
    manager = AsyncKernelManager(kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager())
    client = NotebookClient(
        notebook, km=manager, timeout=CELL_TIMEOUT, record_timing=False, resources={"metadata": {"path": path.parent}}
    )
    name, index = short(path), 0
    bar = tqdm(total=len(notebook.cells), desc=f"{name:28}", unit="cell", disable=None)
    try:
        with single_thread(), bar, client.setup_kernel(stderr=subprocess.DEVNULL):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                bar.update()
            return measure(manager.provisioner.pid)
    except CellTimeoutError:
        reason = f"took more than {CELL_TIMEOUT} s"
        raise NotebookError(f"{name}: {cell_name(notebook, index)} {reason}") from None
    except DeadKernelError:
        raise NotebookError(f"{name}: {cell_name(notebook, index)} killed its kernel (out of memory?)") from None
    except CellExecutionError:
        error = next(output for output in notebook.cells[index].outputs if output.output_type == "error")
        where = f"{name}: {cell_name(notebook, index)} raised {error.ename}: {error.evalue}"
        raise NotebookError("\n".join([where, *(COLOUR.sub("", line) for line in error.traceback)])) from None
    finally:
        if manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)


def record(notebook, cost):
    """Put the cost into the metadata and the cost cell; a figure that hardly moved stays."""
    facts, allowed, old = notebook.metadata.setdefault("dsmini", {}), budget(notebook), recorded(notebook)
    seconds, mib = (round(cost.cpu_seconds, 1), 10 * round(cost.mib / 10))
    if old and abs(cost.cpu_seconds - old.cpu_seconds) <= max(STEADY * old.cpu_seconds, STEADY_SECONDS):
        seconds = old.cpu_seconds
    if old and abs(cost.mib - old.mib) <= STEADY * old.mib:
        mib = old.mib
    facts.update(budget_cpu_seconds=allowed.cpu_seconds, budget_mib=allowed.mib, cpu_seconds=seconds, peak_mib=mib)
    for cell in notebook.cells:
        if "cost" in cell.metadata.get("tags", []):
            cell.source = cost_line(Cost(seconds, mib), allowed)


def cost_line(cost, allowed):
    return (
        f'<p class="cost">Running this chapter takes {cost.cpu_seconds:.0f} CPU seconds and {cost.mib:,.0f} MiB '
        f"of memory (budget: {allowed.cpu_seconds:.0f} s, {allowed.mib:,.0f} MiB).</p>"
    )


def run(path):
    """Execute one notebook and write it back."""
    path = Path(path).resolve()
    notebook = nbformat.read(path, as_version=4)
    cost = execute(notebook, path)
    if over := over_budget(short(path), cost, budget(notebook)):
        raise NotebookError("\n".join(over))
    record(notebook, cost)
    write(canonical(notebook), path)
    return cost


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute notebooks and write them back (default: all chapters)")
    runner.add_argument("paths", nargs="*", type=Path)
    paths = parser.parse_args(argv).paths or chapters()
    failures, costs = [], []
    for path in paths:
        try:
            costs.append(run(path))
            print(f"{short(path)}: {costs[-1]}", flush=True)
        except (NotebookError, OSError) as error:
            failures.append(str(error))
    failures += over_total(costs)
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
