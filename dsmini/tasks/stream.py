"""Problems to train on, without end: what a step asks follows from the seed and the step alone."""

from dsmini.tasks.draw import Draw


def stream(sources, count, seed=0):
    """Returns problems(step) -> a list of `count` problems of the train split, the same for the same step.

    sources: a task, or a dict, task -> its share of the problems; a task may stand in a pair (task, options of its
    `sample`), with options as a tuple of items. Raises ValueError for a share that is not positive.
    """
    shares = sources if isinstance(sources, dict) else {sources: 1}
    for source, share in shares.items():
        if not share > 0:
            raise ValueError(f"sources: {source!r} has the share {share!r}, expected more than 0")

    def problems(step):
        draw = Draw("stream", seed, step)
        return [_sample(draw.weighted(shares), draw) for _ in range(count)]

    return problems


def _sample(source, draw):
    task, options = source if isinstance(source, tuple) else (source, ())
    return task.sample(draw, "train", **dict(options))
