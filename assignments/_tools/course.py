"""nbgrader, told three things: submissions run in our sandbox, the release has no id, feedback shows no hidden test.

`assignments/nbgrader_config.py` and the tools beside this file use the same `configure`, so plain `nbgrader autograde`
and `make grade` do the same.
"""

import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import nbformat
from nbconvert.exporters import HTMLExporter
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    DeduplicateIds,
    GetGrades,
    LimitOutput,
    LockCells,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
    SaveCells,
)
from traitlets.config import Config

import sandbox
import sets
from repair import parse, repair

PLACEHOLDER = "your-id"
_ID = re.compile(r"(variant\([^)]*student\s*=\s*)(['\"])[^'\"]*\2")
DONE = {}  # (student, set): the `sandbox.Report` of a notebook that has already run
DONE_NOTES = {}  # (student, set): what `repair` said of it

CONFIG = """# Written by the grading tool: nbgrader's own commands and the formgrader work in this folder.
import sys

sys.path.insert(0, {tools!r})
from course import configure

c = configure({root!r}, get_config())
"""


class WithoutId(NbGraderPreprocessor):
    """Puts `your-id` where the source has the id of its author."""

    def preprocess_cell(self, cell, resources, cell_index):
        if cell.cell_type == "code":
            cell.source = _ID.sub(rf"\g<1>\g<2>{PLACEHOLDER}\g<2>", cell.source)
        return cell, resources


class MadeWhole(NbGraderPreprocessor):
    """`repair`, before nbgrader looks at a notebook."""

    def preprocess(self, nb, resources):
        problem_set = sets.load(resources["nbgrader"]["assignment"], source_folder(resources))
        whole, notes = repair(parse(nbformat.writes(nb).encode()), problem_set)
        whole.metadata["dsmini"] = {"notes": DONE_NOTES.get(key_of(resources), notes)}
        return whole, resources


class Sandboxed(NbGraderPreprocessor):
    """In the place of nbgrader's Execute: no cell runs in this process or in a kernel, all in `sandbox.run`."""

    def preprocess(self, nb, resources):
        student, name = key_of(resources)
        problem_set = sets.load(name, source_folder(resources))
        report = DONE.get((student, name)) or sandbox.run(cells_of(nb, problem_set), job_of(problem_set, student))
        if report.typed:
            nb.metadata.dsmini.notes.append(f"worked under the id {report.typed!r}: the numbers of {student!r} count")
        for cell in nb.cells:
            if cell.cell_type == "code":
                cell.execution_count, cell.outputs = None, outputs_of(report.outcomes.get(cell.id), graded(cell))
        return nb, resources


class CutHidden(NbGraderPreprocessor):
    """For nbgrader's own feedback: hidden tests leave it, the kind of failure stays."""

    def preprocess_cell(self, cell, resources, cell_index):
        if sets.HIDDEN in cell.source:
            cell.source = cell.source.split(sets.HIDDEN)[0].rstrip()
        return cell, resources


class WithoutScripts(HTMLExporter):
    """nbgrader's feedback page, whose template asks a server of others for its formulas' script."""

    def from_notebook_node(self, nb, resources=None, **kwargs):
        page, resources = super().from_notebook_node(nb, resources, **kwargs)
        return re.sub(r"<script src=['\"]https?://[^>]*>\s*</script>", "", page), resources


def key_of(resources):
    return resources["nbgrader"]["student"], resources["nbgrader"]["assignment"]


def graded(cell):
    return cell.metadata.get("nbgrader", {}).get("grade", False)


def cells_of(notebook, problem_set):
    """What `sandbox.run` is given: a repaired notebook's code cells in order, the tests as the problem set has them."""
    cells = []
    for cell in notebook.cells:
        known = problem_set.by_id.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if cell.cell_type != "code" or known is not None and known.kind == "written":
            continue
        test = known is not None and known.kind in ("public", "hidden")
        cells.append(sandbox.Cell(cell.id, known.kind if test else "own", known.source if test else cell.source))
    return cells


def job_of(problem_set, student):
    return sandbox.Job(problem_set.name, student, problem_set.given)


def outputs_of(outcome, test):
    """An outcome as a notebook's outputs. A test without a verdict has failed."""
    if outcome is None:
        outcome = sandbox.Outcome("not run" if test else None)
    outputs = []
    if outcome.printed:
        outputs.append(nbformat.v4.new_output("stream", name="stdout", text=outcome.printed))
    if outcome.fault:
        fault = nbformat.v4.new_output("error", ename="Failed", evalue=outcome.fault, traceback=[outcome.fault])
        outputs.append(fault)
    return outputs


def source_folder(resources):
    """The source folder of the course whose gradebook it is."""
    return Path(resources["nbgrader"]["db_url"].removeprefix("sqlite:///")).parent / "source"


def configure(root, config=None):
    """The nbgrader configuration of a course folder."""
    c = config if config is not None else Config()
    c.CourseDirectory.root = str(root)
    c.CourseDirectory.db_url = f"sqlite:///{Path(root) / 'gradebook.db'}"
    c.GenerateAssignment.preprocessors = [
        WithoutId, LockCells, ClearSolutions, ClearOutput, CheckCellMetadata, ComputeChecksums, SaveCells,
        ClearHiddenTests, ClearMarkScheme, ComputeChecksums, CheckCellMetadata,
    ]  # fmt: skip
    c.Autograde.sanitize_preprocessors = [
        MadeWhole, ClearOutput, DeduplicateIds, OverwriteKernelspec, OverwriteCells, CheckCellMetadata
    ]  # fmt: skip
    c.Autograde.autograde_preprocessors = [
        Sandboxed, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata
    ]  # fmt: skip
    c.GenerateFeedback.preprocessors = [GetGrades, CutHidden]
    c.GenerateFeedback.exporter_class = WithoutScripts
    c.Exporter.default_preprocessors = []
    return c


class Course:
    """A course folder: source, release, submitted, autograded and a gradebook, by nbgrader's names."""

    def __init__(self, root, source=sets.SOURCE):
        self.root = Path(root).resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        if Path(source).resolve() != self.root / "source":
            shutil.rmtree(self.root / "source", ignore_errors=True)
            for name in sets.names(source):
                shutil.copytree(Path(source) / name, self.root / "source" / name)
        (self.root / "nbgrader_config.py").write_text(
            CONFIG.format(tools=str(Path(__file__).parent), root=str(self.root))
        )
        self.problem_sets = sets.load_all(self.root / "source")
        config = configure(self.root)
        self.api = NbGraderAPI(config=config)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # alembic

    @property
    def gradebook(self):
        return Gradebook(f"sqlite:///{self.root / 'gradebook.db'}")

    def release(self, name):
        """Build release/NAME/NAME.ipynb and enter the set in the gradebook. Returns the notebook."""
        self._do("generate_assignment", name)
        return nbformat.read(self.root / "release" / name / f"{name}.ipynb", 4)

    def autograde(self, name, student, notebook):
        """nbgrader's verdict on a repaired notebook, entered in the gradebook."""
        folder = self.root / "submitted" / student / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{name}.ipynb")
        self._do("autograde", name, student)

    def zero(self, name, student):
        """Nothing can be graded: no points, and no trace of an earlier hand-in."""
        for part in ("submitted", "autograded"):
            shutil.rmtree(self.root / part / student / name, ignore_errors=True)
        with self.gradebook as gradebook, gradebook.db.no_autoflush:
            gradebook.update_or_create_student(student)
            submission = gradebook.update_or_create_submission(name, student)
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    grade.auto_score, grade.needs_manual_grade = 0, False
            gradebook.db.commit()

    def mark(self, name, student, cell, points, comment=None):
        """A person's points for a cell."""
        with self.gradebook as gradebook:
            grade = gradebook.find_grade(cell, name, name, student)
            grade.manual_score, grade.needs_manual_grade = points, False
            if comment:
                gradebook.find_comment(cell, name, name, student).manual_comment = comment
            gradebook.db.commit()

    def points(self, name, student):
        """{cell id: points, or None where a person has to decide} from the gradebook."""
        with self.gradebook as gradebook:
            try:
                notebook = gradebook.find_submission_notebook(name, name, student)
            except MissingEntry:
                return {}
            found = {}
            for grade in notebook.grades:
                score = grade.manual_score if grade.manual_score is not None else grade.auto_score
                found[grade.name] = None if score is None else score + (grade.extra_credit or 0)
            return found

    def _do(self, what, *args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = getattr(self.api, what)(*args)
        if not result["success"]:
            said = result.get("log") or result.get("error")
            raise RuntimeError(f"nbgrader {what} {' '.join(args)}: {said}")
