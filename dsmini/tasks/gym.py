"""Any data set of reasoning-gym as a task of this book: the same names, its own questions and its own scores.

`from_name("chain_sum", seed=1)` needs `pip install reasoning-gym`, which brings packages that are built from source;
nothing else here does. A data set is a function of its seed and an index, so a draw chooses an index. One problem in
ten is held out by a hash of its question. The questions are English text, outside of the book's 128 symbols: this is
for readers with a model and a tokenizer of their own.
"""

import dataclasses
import functools

from dsmini.tasks.draw import check_split, split_of

_MAX_TRIES = 1000


@dataclasses.dataclass(frozen=True)
class GymProblem:
    """One problem. task: the `Gym` it is from; index: where it stands there."""

    task: "Gym"
    index: int

    @functools.cached_property
    def entry(self):
        """The data set's own entry, a dict with "question", "answer" and "metadata"."""
        return self.task.dataset[self.index]

    @property
    def prompt(self):
        return self.entry["question"]

    @property
    def answer(self):
        """The data set's own answer; None where it has none, as others may be right. `is_right` asks for the score."""
        return self.entry["answer"]

    @property
    def difficulty(self):
        """What the data set says of the problem's difficulty, a dict; empty where it says nothing."""
        return self.entry["metadata"].get("difficulty", {})

    @property
    def split(self):
        return split_of(self.prompt)


class Gym:
    """A data set with reasoning-gym's interface as a task, which stands where a module of `dsmini.tasks` may stand.

    dataset: anything with len(dataset), dataset[i] -> {"question", "answer", "metadata"}, the same for the same i, and
    score_answer(answer, entry) -> float from 0 to 1.
    """

    def __init__(self, dataset):
        if not len(dataset):
            raise ValueError("dataset: is empty, expected at least one entry")
        self.dataset = dataset

    def sample(self, draw, split="train"):
        """A random problem of the split. Raises ValueError where a thousand draws find none, as in a tiny data set."""
        check_split(split)
        for _ in range(_MAX_TRIES):
            problem = GymProblem(self, draw.below(len(self.dataset)))
            if problem.split == split:
                return problem
        raise ValueError(f"split = {split!r}: not found in {_MAX_TRIES} draws, expected a data set with more entries")

    def is_right(self, problem, answer):
        return is_right(problem, answer)


def score(problem, answer):
    """The data set's own score of an answer's text, a float; many give parts of a point for what is nearly right.

    A scorer may be a weak verifier: that of `game_of_life_halting` (version 0.1.25) pays any text but the empty one.
    """
    return float(problem.task.dataset.score_answer(answer, problem.entry))


def is_right(problem, answer):
    """Whether an answer's text has the full score, 1. An answer that the data set's scorer stumbles over is wrong."""
    try:
        return score(problem, answer) >= 1
    except Exception:  # scorers parse what a model says, each in its own way, and fail in theirs
        return False


def from_name(name, **options):
    """A task from reasoning-gym's data set of that name. options: its own, such as seed and size.

    Raises ImportError where reasoning-gym is not installed, ValueError (its own) for a name that it does not know.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise ImportError(
            "dsmini.tasks.gym.from_name needs reasoning-gym: pip install reasoning-gym (some of its dependencies are "
            "built from source, one with a C compiler)"
        ) from error
    return Gym(reasoning_gym.create_dataset(name, **options))
