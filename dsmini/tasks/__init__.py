"""Problems whose answers a few lines of Python can check, and the texts about them that the base model reads.

Every task is a module with the same names: `sample(draw, split)` makes a problem (`.prompt`, `.answer`, `.difficulty`,
`.split`), `write(problem, style, draw)` a thought about it and an answer, `is_right(problem, answer)` checks one.
"""
