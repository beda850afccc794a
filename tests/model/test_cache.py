"""Caches: what they store, when they are full, and steps that fail."""

import pytest
import torch
from tiny import CONFIGS, difference, make_model, make_tokens

from dsmini.model.cache import Cache, CacheFullError, FullCache, IndexedLatentCache, LatentCache


def toy(batch_size=2, max_tokens=6):
    """A cache of one layer that stores one number per token."""
    return Cache(1, batch_size, max_tokens, shapes=((1,),))


def store(cache, *rows):
    """One step of right-padded rows of numbers; returns what is stored afterwards, (B, S)."""
    width = max(map(len, rows))
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.tensor([list(row) + [-1.0] * (width - len(row)) for row in rows])
    cache.begin(width, None if lengths.eq(width).all() else lengths)
    stored = cache.layers[0].append(tokens[..., None])[..., 0]
    cache.finish()
    return stored


def test_rows_are_stored_one_behind_the_other():
    cache = toy()
    assert store(cache, [1, 2], [3, 4]).tolist() == [[1, 2], [3, 4]]
    assert store(cache, [5], [6]).tolist() == [[1, 2, 5], [3, 4, 6]]
    assert cache.lengths.tolist() == [3, 3] and cache.longest == 3


def test_padding_is_not_stored():
    cache = toy(batch_size=3)
    assert store(cache, [1, 2, 3], [4], []).tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]
    assert store(cache, [5], [6, 7], [8]).tolist() == [[1, 2, 3, 5], [4, 6, 7, 0], [8, 0, 0, 0]]
    assert cache.lengths.tolist() == [4, 3, 1] and cache.longest == 4


def test_positions_go_on_where_each_row_ended():
    cache = toy()
    assert cache.begin(3).tolist() == [[0, 1, 2]]
    cache.finish()
    assert cache.begin(2, torch.tensor([2, 1])).tolist() == [[3, 4], [3, 4]]
    cache.finish()
    assert cache.begin(1).tolist() == [[5], [4]]


def test_rows_that_meet_again_are_uniform_again():
    cache = toy()
    store(cache, [1, 2], [3])
    store(cache, [], [4])
    assert cache.begin(1).tolist() == [[2]]


def test_no_mask_is_needed_for_a_first_chunk_or_for_one_token():
    cache = toy()
    assert cache.mask(cache.begin(4)) is None
    cache.finish()
    assert cache.mask(cache.begin(1)) is None


def test_mask_of_a_later_chunk_shows_the_past_and_itself():
    cache = toy()
    store(cache, [1, 2], [3, 4])
    mask = cache.mask(cache.begin(2))
    assert mask.tolist() == [[[[True, True, True, False], [True, True, True, True]]]]


def test_mask_of_ragged_rows_ends_with_each_row():
    cache = toy()
    store(cache, [1, 2, 3], [4])
    mask = cache.mask(cache.begin(1))  # positions 3 and 1
    assert mask[:, 0, 0].tolist() == [[True, True, True, True], [True, True, False, False]]


@pytest.mark.parametrize("name", CONFIGS)
def test_new_cache_fits_the_attention(name):
    config = CONFIGS[name]
    cache = make_model(config, dtype=torch.float32).new_cache(batch_size=2, max_tokens=5)
    latent, full = (2, 5, 12 + 6), (2, config.num_key_value_heads, 5, config.head_dim)
    kind, expected = (FullCache, [full, full]) if config.attention != "mla" else (LatentCache, [latent])
    if config.has_indexer:
        kind, expected = IndexedLatentCache, [latent, (2, 5, 8)]
    assert type(cache) is kind
    assert len(cache.layers) == config.num_hidden_layers
    assert all([tuple(buffer.shape) for buffer in layer.buffers] == expected for layer in cache.layers)
    assert cache.layers[0].buffers[0].dtype == torch.float32


def contents(cache):
    return cache.lengths.clone(), [buffer.clone() for layer in cache.layers for buffer in layer.buffers]


def assert_same(contents_before, contents_after):
    (lengths, buffers), (lengths_after, buffers_after) = contents_before, contents_after
    assert torch.equal(lengths, lengths_after)
    assert all(torch.equal(a, b) for a, b in zip(buffers, buffers_after, strict=True))


@pytest.mark.parametrize("name", ["gqa", "mla", "sparse mla"])
@pytest.mark.parametrize("lengths", [None, [3, 6]])
def test_full_cache_says_so_and_stays_as_it_was(name, lengths):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 2, 12)
    cache, whole = model.new_cache(batch_size=2, max_tokens=8), model(tokens)
    with torch.no_grad():
        model(tokens[:, :6], cache, lengths and torch.tensor(lengths))
        before = contents(cache)
        row, held = (0, 6) if lengths is None else (1, 6)
        with pytest.raises(CacheFullError, match=f"row {row} holds {held} tokens, and 3 more .* max_tokens = 8"):
            model(tokens[:, 6:9], cache)
        assert_same(before, contents(cache))
        if lengths is None:
            assert difference(model(tokens[:, 6:8], cache), whole[:, 6:8]) < 1e-12, "what fits still goes in"


def test_full_cache_is_a_value_error_that_names_the_cure():
    with pytest.raises(ValueError, match=r"new_cache\(batch_size, max_tokens\)"):
        toy(max_tokens=3).begin(4)


@pytest.mark.parametrize("lengths", [None, [2, 1]])
def test_step_that_fails_midway_is_not_counted(lengths):
    model = make_model(CONFIGS["mla"])
    tokens = make_tokens(model.config, 2, 9)
    whole, cache = model(tokens), model.new_cache(batch_size=2, max_tokens=9)
    lengths = lengths and torch.tensor(lengths)
    with torch.no_grad():
        model(tokens[:, :5], cache)
        healthy = model.model.layers[1].mlp.forward
        model.model.layers[1].mlp.forward = lambda x: 1 / 0
        with pytest.raises(ZeroDivisionError):
            model(tokens[:, 5:7].flip(1), cache, lengths)
        model.model.layers[1].mlp.forward = healthy
        assert cache.lengths.tolist() == [5, 5]
        assert difference(model(tokens[:, 5:], cache), whole[:, 5:]) < 1e-12


@pytest.mark.parametrize(("sizes", "message"), [((0, 5), "batch_size = 0"), ((2, -1), "max_tokens = -1")])
def test_sizes_of_a_cache_are_checked(sizes, message):
    with pytest.raises(ValueError, match=f"{message}: expected 1 or more"):
        make_model(CONFIGS["mla"]).new_cache(*sizes)


def test_rewound_slots_are_written_again():
    cache = toy(batch_size=3)
    store(cache, [1, 2, 3], [4, 5, 6], [7, 8, 9])
    cache.rewind(torch.tensor([3, 1, 2]))
    assert cache.lengths.tolist() == [3, 1, 2] and cache.longest == 3
    assert cache.begin(1).tolist() == [[3], [1], [2]]
    assert store(cache, [10.0], [11.0], [12.0]).tolist() == [[1, 2, 3, 10], [4, 11, 6, 0], [7, 8, 12, 0]]


def test_rows_rewound_to_one_length_are_uniform():
    cache = toy()
    store(cache, [1, 2, 3], [4])
    cache.rewind(torch.tensor([1, 1]))
    assert cache.begin(1).tolist() == [[1]] and cache.longest == 1
    cache.rewind(torch.tensor([0, 0]))
    assert cache.mask(cache.begin(3)) is None, "as new"


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_rejected_drafts_leave_no_trace(name):
    model = make_model(CONFIGS[name])
    tokens, other = make_tokens(model.config, 3, 12), make_tokens(model.config, 3, 12, seed=1)
    whole, cache = model(tokens), model.new_cache(batch_size=3, max_tokens=12)
    model(tokens[:, :5], cache)
    model(torch.cat((tokens[:, 5:7], other[:, 7:10]), dim=1), cache)  # two right tokens, then three wrong ones
    cache.rewind(torch.tensor([5, 6, 7]))
    for row, start in enumerate((5, 6, 7)):
        new = torch.zeros_like(tokens[:, :4])
        new[row] = tokens[row, start : start + 4]
        lengths = torch.tensor([4 if i == row else 0 for i in range(3)])
        assert difference(model(new, cache, lengths)[row], whole[row, start : start + 4]) < 1e-12


@pytest.mark.parametrize(
    ("lengths", "message"), [([2, 2], r"lengths\[1\] = 2: .* 1 tokens"), ([-1, 0], r"lengths\[0\] = -1")]
)
def test_rewinding_forwards_is_refused(lengths, message):
    cache = toy()
    store(cache, [1, 2, 3], [4])
    with pytest.raises(ValueError, match=message):
        cache.rewind(torch.tensor(lengths))
    assert cache.lengths.tolist() == [3, 1]


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_selected_rows_go_on_as_if_they_were_alone(name):
    model = make_model(CONFIGS[name])
    tokens = make_tokens(model.config, 3, 12)
    whole, cache = model(tokens), model.new_cache(batch_size=3, max_tokens=7)
    model(tokens[:, :7], cache, torch.tensor([4, 6, 7]))
    before = contents(cache)
    rows = torch.tensor([1, 0, 1])
    chosen = cache.select(rows, max_tokens=9)
    assert chosen.lengths.tolist() == [6, 4, 6] and (chosen.batch_size, chosen.max_tokens) == (3, 9)
    different = make_tokens(model.config, 3, 2, seed=1)  # the copies of row 1 part ways
    different[:2] = torch.stack((tokens[1, 6:8], tokens[0, 4:6]))
    logits = model(different, chosen)
    assert difference(logits[0], whole[1, 6:8]) < 1e-12 and difference(logits[1], whole[0, 4:6]) < 1e-12
    assert difference(logits[2], model(torch.cat((tokens[1, :6], different[2]))[None])[0, 6:]) < 1e-12
    assert_same(before, contents(cache))


def test_selection_may_be_smaller_and_uniform_again():
    cache = toy(batch_size=3, max_tokens=6)
    store(cache, [1, 2, 3, 4, 5], [6, 7], [8, 9])
    chosen = cache.select(torch.tensor([2, 1]), max_tokens=2)
    assert chosen.longest == 2 and chosen.layers[0].buffers[0][..., 0].tolist() == [[8, 9], [6, 7]]
    assert cache.select(torch.tensor([2])).max_tokens == 6
    with pytest.raises(CacheFullError):
        chosen.begin(1)


@pytest.mark.parametrize(
    ("rows", "max_tokens", "message"),
    [
        ([0, 2], None, r"rows: \[0, 2\], expected at least one number from 0 to 1"),
        ([-1], None, r"rows: \[-1\]"),
        ([], None, r"rows: \[\]"),
        ([1, 0], 2, "max_tokens = 2: expected 3 or more"),
    ],
)
def test_selection_that_cannot_be_is_refused(rows, max_tokens, message):
    cache = toy()
    store(cache, [1, 2, 3], [4])
    with pytest.raises(ValueError, match=message):
        cache.select(torch.tensor(rows, dtype=torch.int64), max_tokens)
