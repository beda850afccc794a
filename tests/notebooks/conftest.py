"""nbval runs every chapter once; before its kernels stop they are measured and asked to do the chapter's exercises.

The figures are compared with those recorded in the chapter (book/_tools/notebooks.py holds the limits), and a chapter
that costs more than twice the seconds or 1.25 times the memory fails the run. So does an exercise whose solution fails
its own check, or whose check an empty answer passes (book/_tools/exercises.py). Outputs are tidied before comparison.
"""

import nbformat
import nbval.plugin
import pytest

import exercises
import notebooks

COSTS, COMPLAINTS = pytest.StashKey[dict](), pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[COSTS], config.stash[COMPLAINTS] = {}, []
    teardown, compare = nbval.plugin.IPyNbFile.teardown, nbval.plugin.IPyNbCell.compare_outputs

    def measured_teardown(self):
        if self.kernel is not None and self.kernel.is_alive():
            cost = config.stash[COSTS][self.path] = notebooks.measure(self.kernel.km.provisioner.pid)
            notebook, name = nbformat.read(self.path, as_version=4), notebooks.short(self.path)
            found = notebooks.over_recorded(name, cost, notebooks.recorded(notebook))
            found += [f"{name}: {complaint}" for complaint in exercise_complaints(self.kernel, notebook)]
            config.stash[COMPLAINTS] += found
        teardown(self)

    def tidy_compare(self, test, ref, skip_compare=None):
        """Compare what the runner would store: no progress bars, no addresses."""
        return compare(self, notebooks.tidy_outputs([nbformat.from_dict(output) for output in test]), ref, skip_compare)

    nbval.plugin.IPyNbFile.teardown = measured_teardown
    nbval.plugin.IPyNbCell.compare_outputs = tidy_compare


def exercise_complaints(kernel, notebook):
    """Do a chapter's exercises in its kernel, which holds what the chapter defined."""
    found = exercises.exercises(notebook)
    if not found:
        return []
    request, printed = kernel.execute_cell_input(exercises.kernel_code(found), allow_stdin=False), ""
    while True:
        message = kernel.get_message("iopub", timeout=120)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed += message["content"]["text"]
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return exercises.complaints(printed)


def pytest_sessionfinish(session, exitstatus):
    stash = session.config.stash
    stash[COMPLAINTS] += notebooks.over_total(stash[COSTS].values())
    if exitstatus == pytest.ExitCode.OK and stash[COMPLAINTS]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    costs = config.stash[COSTS]
    if costs:
        terminalreporter.section("cost of the chapters")
    for path, cost in costs.items():
        terminalreporter.line(f"{notebooks.short(path)}: {cost}")
    for complaint in config.stash[COMPLAINTS]:
        terminalreporter.line(f"FAILED {complaint}", red=True)
