"""The least that the sparsity explorer can show, for its tests."""

# One query that looks for no needle, in one layer of 20 tokens; the token at place 4 has most, and a long name.
LEAN = {
    "queries": [9], "attention": [[[0.04] * 4 + [0.5] + [0.068] * 5 + [0.0] * 10]], "indexer": [[[5, 4, 9, 0]]],
    "random": [[2, 7, 4, 8]],
}  # fmt: skip
LEAN_WORDS = ["<b>" if place == 5 else f"word {place}" + " and more" * (place == 4) for place in range(20)]
