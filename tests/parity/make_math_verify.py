"""Store math-verify's verdicts on answers in LaTeX: python tests/parity/make_math_verify.py

Right answers, respelled ones, wrong signs, roundings and copied questions to problems of `dsmini.tasks.maths`, as JSON.
Each row names problem, answer and verdict, so that chapter 6 can compare without math-verify. Needs the extra `parity`.
"""

import importlib.metadata
import json

from make_references import FOLDER
from test_math_verify import gold, in_latex, theirs

from dsmini.files import atomically
from dsmini.tasks.draw import Draw
from dsmini.tasks.formulas import boxed
from dsmini.tasks.maths import sample, write

PATH = FOLDER / "math_verify.json"
STYLES = ("right", "respelled", "sign", "half", "decimal", "copy")
COUNT = 32  # problems


def rows():
    """All rows: kind, subject and solutions of a problem, style and text of an answer, verdict."""
    draw, found = Draw("math-verify"), []
    for _ in range(COUNT):
        problem = sample(draw)
        for style in STYLES:
            said = boxed(write(problem, style, draw)[1])
            if style == "copy" and "=" in said:
                continue  # an equation is no answer to us
            answer = in_latex(problem, [said], draw)
            question = {"kind": problem.kind, "subject": problem.subject, "solutions": list(problem.solutions)}
            found.append({**question, "style": style, "answer": answer, "verdict": theirs(gold(problem), answer)})
    return found


def main():
    lines = ",\n  ".join(json.dumps(row) for row in rows())
    made_by = f"math-verify {importlib.metadata.version('math-verify')}"
    with atomically(PATH) as temporary:
        temporary.write_text(f'{{\n "made_by": "{made_by}",\n "rows": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
