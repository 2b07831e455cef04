"""Batches from Python code: which come in which order, and what is said when they do not."""

import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsched.sweep.data import Feed, Source


def batches(count, begin=0):
    for i in range(begin, begin + count):
        yield {"x": np.full((2, 3), i, np.float32), "y": np.array([i, i], np.int64)}


def numbers(taken):
    return taken["x"][:, 0, 0].astype(int).tolist()


class Loader:
    """As those of torch and Grain: every `iter` begins a new pass."""

    def __iter__(self):
        return batches(3)


WAYS = {
    "list": lambda: list(batches(3)),
    "loader": Loader,
    "function": lambda: lambda: batches(3),
    "function of a list": lambda: lambda: list(batches(3)),
}


@pytest.mark.parametrize("way", WAYS)
def test_epochs_follow_one_another_and_passes_begin_again(way):
    source = Source(WAYS[way]())
    for _ in range(2):
        with Feed.open(source) as feed:
            taken = feed.take(2)
            assert jax.tree.map(np.shape, taken) == {"x": (2, 2, 3), "y": (2, 2)}
            assert numbers(taken) == [0, 1]
            assert numbers(feed.take(5)) == [2, 0, 1, 2, 0]
            assert numbers(feed.take(1)) == [1]


@pytest.mark.parametrize("start", [0, 1, 3, 7])
def test_a_start_is_where_the_whole_pass_would_stand(start):
    source = Source(Loader())
    with Feed.open(source) as whole, Feed.open(source, start=start) as rest:
        assert numbers(rest.take(5)) == numbers(whole.take(start + 5))[start:]


def test_two_feeds_do_not_share_a_pass():
    source = Source(lambda: batches(3))
    with Feed.open(source) as a, Feed.open(source) as b:
        assert [numbers(a.take(1)), numbers(b.take(2)), numbers(a.take(2))] == [[0], [0, 1], [1, 2]]


def test_dtypes_are_those_that_jax_computes_with():
    source = Source([(np.zeros(2), np.zeros(2, np.int64), jnp.zeros(2, jnp.bfloat16), np.float32(1))])
    with Feed.open(source) as feed:
        taken = feed.take(2)
    assert [x.dtype for x in taken] == [jnp.asarray(x).dtype for x in taken]
    assert (
        [x.dtype for x in taken] == [x.dtype for x in source.first] == [np.float32, np.int32, jnp.bfloat16, np.float32]
    )


def test_a_loader_may_write_every_batch_in_one_buffer():
    def reused():
        buffer = np.empty(2, np.float32)
        for i in itertools.count():
            buffer[:] = i
            yield buffer

    with Feed.open(Source(reused)) as feed:
        assert [feed.take(3)[:, 0].tolist() for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_an_iterator_gives_one_pass():
    source = Source(batches(4))
    assert source.once
    assert source.first["y"].tolist() == [0, 0]
    with Feed.open(source) as feed:
        assert numbers(feed.take(4)) == [0, 1, 2, 3]
        with pytest.raises(ValueError, match=r"ran dry at step 4: it gave 4 batches.*write a function"):
            feed.take(1)
    with pytest.raises(ValueError, match=r"gives its batches once.*train=lambda: make_iterator\(\)"):
        Feed.open(source)


def test_a_grain_loader_is_a_source():
    grain = pytest.importorskip("grain")
    data = grain.MapDataset.source(np.arange(12, dtype=np.float32)).shuffle(seed=3)
    loader = data.batch(4, drop_remainder=True).to_iter_dataset()
    epoch = [np.asarray(batch) for batch in loader]
    source = Source(loader)
    with Feed.open(source) as feed:
        np.testing.assert_array_equal(feed.take(4), [*epoch, epoch[0]])
    with Feed.open(source, start=2) as feed:
        np.testing.assert_array_equal(feed.take(1), epoch[2:])
    ragged = data.batch(5, drop_remainder=False).to_iter_dataset()
    with (
        Feed.open(Source(ragged)) as feed,
        pytest.raises(ValueError, match=r"batch 2 of train has the form float32\[2\].*drop the remainder"),
    ):
        feed.take(3)


def test_no_more_is_fetched_than_two_segments():
    fetched = []

    def watched():
        for i in itertools.count():
            fetched.append(i)
            yield np.zeros(1)

    source = Source(watched)
    fetched.clear()
    with Feed.open(source) as feed:
        for taken in (5, 10, 15):
            feed.take(5)
            settle(lambda least=taken + 10: len(fetched) >= least)
            # Those that are ready, and the one that waits for a place.
            assert taken + 10 <= len(fetched) <= taken + 11


def settle(condition):
    """Waits until it holds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("endless", [True, False])
def test_close_ends_the_thread_and_closes_the_iterator(endless):
    closed = []

    def watched():
        try:
            yield from (np.zeros(1) for _ in (itertools.count() if endless else range(2)))
        finally:
            closed.append(threading.current_thread().name)

    source = Source(watched)
    feed = Feed.open(source)
    feed.take(1)
    feed.close()
    assert not feed._thread.is_alive()
    assert closed[0] == "MainThread"  # the look at the first batch
    assert set(closed[1:]) == {"jaxsched-feed"}  # a generator is closed where it runs
    feed.close()  # once more does no harm


def test_close_stops_the_batches_that_are_passed_over():
    begun = threading.Event()

    def endless():
        for i in itertools.count():
            if i == 5:
                begun.set()
            yield np.zeros(1)

    feed = Feed.open(Source(endless), start=2**62)
    assert begun.wait(30)
    feed.close()
    assert not feed._thread.is_alive()


def test_close_wakes_whoever_waits():
    asked, go_on = threading.Event(), threading.Event()

    def slow():
        yield np.zeros(1)
        asked.set()
        go_on.wait(30)

    feed = Feed.open(Source(slow))
    caught = []

    def wait():
        try:
            feed.take(2)
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert asked.wait(30)
    feed._thread.join = lambda timeout: None  # it hangs in the loader
    feed.close()
    thread.join(30)
    go_on.set()
    assert caught == ["the feed was closed while batches were awaited"]


class Broken(Exception):
    pass


def broken(at):
    for i in itertools.count():
        if i == at:
            raise Broken("no such shard")
        yield np.zeros(2)


def test_what_goes_wrong_in_the_loader_is_raised_where_the_batches_are_awaited():
    with Feed.open(Source(lambda: broken(3))) as feed:
        feed.take(3)
        with pytest.raises(Broken) as caught:
            feed.take(1)
    assert caught.value.__notes__ == ["Task: this came from train, when it was asked for batch 3."]


def changing(*forms):
    return lambda: iter(forms)


@pytest.mark.parametrize(
    ("error", "says", "make"),
    [
        (ValueError, r"train=\[\] gave no batch", list),
        (ValueError, "gave no batch", lambda: batches(0)),
        (ValueError, "gave no batch", lambda: lambda: batches(0)),
        (TypeError, r"train\(\)=3; train\(\) must return an iterator", lambda: lambda: 3),
        (TypeError, r"batch 0 of train holds 1.0; a batch must be a pytree of arrays", lambda: [(1.0, np.zeros(2))]),
        (TypeError, r"batch 0 of train holds 'a'", lambda: [("a", np.zeros(2))]),
        (Broken, "no such shard", lambda: lambda: broken(0)),
    ],
)
def test_a_bad_source_is_refused(error, says, make):
    with pytest.raises(error, match=says):
        Source(make())


@pytest.mark.parametrize(
    ("error", "says", "train"),
    [
        (ValueError, r"batch 1 .* float32\[3\], and batch 0 had float32\[2\].*drop", changing(np.ones(2), np.ones(3))),
        (ValueError, r"batch 1 of train has the form int32\[2\]", changing(np.ones(2), np.ones(2, np.int32))),
        (ValueError, r"batch 1 of train has the form \(float32\[2\],\)", changing(np.ones(2), (np.ones(2),))),
        (TypeError, "batch 1 of train holds None|batch 1 of train has the form None", changing(np.ones(2), None)),
        (TypeError, "batch 1 of train holds 5", changing(np.ones(2), 5)),
    ],
)
def test_a_batch_unlike_the_first_is_refused(error, says, train):
    with Feed.open(Source(train)) as feed, pytest.raises((error, ValueError), match=says):
        feed.take(2)


def test_a_function_must_make_a_new_iterator():
    one = batches(3)
    source = Source(one)  # to have an iterator that is half through
    assert source.once
    shared = iter(list(batches(3)))
    with (
        pytest.raises(ValueError, match="was returned a second time"),
        Feed(Source(lambda: shared)) as feed,
    ):
        feed.take(1)


def test_a_source_that_is_empty_the_second_time():
    passes = iter([3, 3, 0])  # the look at the first batch, the first epoch, the second
    with Feed.open(Source(lambda: batches(next(passes)))) as feed:
        assert numbers(feed.take(3)) == [0, 1, 2]
        with pytest.raises(ValueError, match="ran dry at step 3: a new pass was empty"):
            feed.take(1)
