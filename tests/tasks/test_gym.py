"""The adapter: on a data set with reasoning-gym's interface, and on reasoning-gym's own where it is installed."""

import importlib.util
import random
import subprocess
import sys

import pytest

from dsmini.language.frame import response_text
from dsmini.tasks import gym
from dsmini.tasks.draw import Draw, split_of
from dsmini.tasks.gym import Gym, from_name, is_right, score
from dsmini.tasks.measure import grade, held_out
from dsmini.tasks.rewards import accuracy
from dsmini.tasks.stream import stream

REAL = ("chain_sum", "countdown", "leg_counting") if importlib.util.find_spec("reasoning_gym") else ()


class Doubles:
    """A data set as reasoning-gym has them: an entry follows from seed and index; half a point for the last digit."""

    def __init__(self, seed=0, size=500):
        self.seed, self.size = seed, size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        n = random.Random(self.seed + i).randrange(10_000)
        return {
            "question": f"What is twice {n}?",
            "answer": str(2 * n),
            "metadata": {"source_dataset": "doubles", "source_index": i, "difficulty": {"digits": len(str(n))}},
        }

    def score_answer(self, answer, entry):
        value, right = int(answer), int(entry["answer"])  # stumbles over anything but a number
        return 1.0 if value == right else 0.5 if value % 10 == right % 10 else 0.0


def make(name):
    return Gym(Doubles(seed=1)) if name == "doubles" else from_name(name, seed=1, size=500)


@pytest.fixture(params=["doubles", *REAL])
def task(request):
    return make(request.param)


def test_problems_are_the_data_sets_own_and_always_the_same(task):
    first, again = ([task.sample(Draw("test", i)) for i in range(20)] for _ in range(2))
    assert first == again and len({problem.index for problem in first}) > 10
    for problem in first:
        entry = task.dataset[problem.index]
        assert (problem.prompt, problem.answer) == (entry["question"], entry["answer"])
        assert isinstance(problem.difficulty, dict)


def test_training_never_sees_a_test_problem(task):
    draw = Draw(0)
    texts = {split: {task.sample(draw, split).prompt for _ in range(200)} for split in ("train", "test")}
    assert all(split_of(text) == split for split, some in texts.items() for text in some)
    assert not texts["train"] & texts["test"] and len(texts["test"]) > 20


def test_right_is_what_the_data_set_scores_in_full(task):
    for i in range(20):
        problem = task.sample(Draw(i))
        assert score(problem, problem.answer) == 1 and is_right(problem, problem.answer)
        assert not is_right(problem, "nonsense") and not is_right(problem, "")


def test_it_stands_where_a_module_of_tasks_stands(task):
    problems = held_out(task, 5)
    assert len({problem.prompt for problem in problems}) == 5 and {problem.split for problem in problems} == {"test"}
    texts = [[response_text("so", problem.answer), response_text("so", "no")] for problem in problems]
    assert grade(task, problems, texts).tolist() == [[1, 0]] * 5
    assert [accuracy(problem, said[0]) for problem, said in zip(problems, texts, strict=True)] == [1] * 5
    asked = stream({task: 1}, 4)(0)
    assert asked == stream(task, 4)(0) and {problem.split for problem in asked} == {"train"}


def test_parts_of_a_point_and_a_scorer_that_stumbles_are_not_right():
    problem = make("doubles").sample(Draw(0))
    close = str(int(problem.answer) + 10)
    assert score(problem, close) == 0.5 and not is_right(problem, close)
    with pytest.raises(ValueError, match="invalid literal"):
        score(problem, "many")
    assert not is_right(problem, "many")


def test_difficulty_is_what_the_data_set_says_of_it_if_anything():
    problem = make("doubles").sample(Draw(0))
    number = problem.prompt.removeprefix("What is twice ").removesuffix("?")
    assert problem.difficulty == {"digits": len(number)}
    del problem.entry["metadata"]["difficulty"]
    assert problem.difficulty == {}


def test_an_entry_is_made_once_a_problem():
    made = []

    class Counting(Doubles):
        def __getitem__(self, i):
            made.append(i)
            return super().__getitem__(i)

    problem = gym.GymProblem(Gym(Counting()), 7)
    assert problem.prompt and problem.answer and is_right(problem, problem.answer) and made == [7]


def test_it_is_imported_without_reasoning_gym_and_says_what_to_install():
    code = (
        "import sys; sys.modules['reasoning_gym'] = None\n"
        "from dsmini.tasks.gym import from_name\n"
        "try:\n    from_name('chain_sum')\nexcept ImportError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "needs reasoning-gym: pip install reasoning-gym" in said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Gym(Doubles(size=0)), "dataset: is empty, expected at least one entry"),
        (lambda: make("doubles").sample(Draw(0), "dev"), "split = 'dev'"),
        (lambda: Gym(Doubles(size=1)).sample(Draw(0), "test"), "split = 'test': not found in 1000 draws"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
