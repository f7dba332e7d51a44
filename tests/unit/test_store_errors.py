"""Errors carry their facts, say what to do, and cross process boundaries whole.

The hazard: an error that can't be unpickled in the parent process hides the real one.
"""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import uuid
from datetime import UTC, datetime

import pytest

import eventbraid as eb
from eventbraid import errors

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
CONFLICT = eb.errors.ConflictedStream("account-a", expected=eb.EXISTS, actual=0)
EXAMPLES = [
    eb.CommandRejected("insufficient_funds", facts={"available": 3}),
    eb.errors.CorruptStore("log/1", 4096, "wrong checksum"),
    eb.errors.FoldError("Account", "opened", "account-a", 3, 7),
    eb.errors.DeadlineExceeded("Transfer", 3, eb.VersionConflict([CONFLICT])),
    eb.errors.DiscoveryLimit("Transfer", "rounds", 16, 17),
    eb.errors.EventDecodeError("opened", "account-a", 7, "not JSON"),
    eb.EventbraidError("something"),
    eb.errors.IdempotencyMismatch("transfer-7"),
    eb.errors.IncompatibleFormat("shop.braid", 9, 1),
    eb.errors.InvalidArgument("location", "", "give a path"),
    eb.errors.InvalidEventType("event type", "", "it is empty"),
    eb.errors.InvalidStreamId("stream", "", "it is empty"),
    eb.InvalidValue("Money", "-1", "it must be 0 or more", "give cents"),
    eb.errors.LimitExceeded("event data", 9, 8),
    eb.errors.NotAStore("shop.braid", "it is a file"),
    eb.OutcomeUnknown(
        "the disk failed", idempotency_key="k", event_ids=[uuid.UUID(int=1)]
    ),
    eb.errors.RetriesExhausted(5, eb.VersionConflict([CONFLICT])),
    eb.LeaseHeld("importer", "python (process 7 on host)", MOMENT, 1.5),
    eb.errors.LeaseLost("importer", 3, 4),
    eb.errors.SharingUnsupported("shop.braid", "it is on NFS"),
    eb.errors.StorageFull("log/2", "no space left on device"),
    eb.StoreBusy("shop.braid", "process 7"),
    eb.errors.StoreClosed(),
    eb.errors.StoreDetached("shop.braid/coord.shm", "it was deleted"),
    eb.errors.StorePoisoned("input/output error"),
    eb.errors.StoreUnavailable("shop.braid", "open", "permission denied", errno.EACCES),
    eb.errors.StreamDeleted("account-a"),
    eb.errors.UndeclaredStream("account-c", "Transfer", ["account-a"]),
    eb.errors.UnknownCodec("aes:2025", "opened", "account-a", 3, 7),
    eb.errors.UnknownEventType("opened", 2, "account-a", 7),
    eb.VersionConflict([CONFLICT]),
]


def facts(error):
    """Compare by type and text where a fact is an error itself."""
    shown = {
        name: (type(fact), str(fact)) if isinstance(fact, Exception) else fact
        for name, fact in vars(error).items()
    }
    return type(error), str(error), error.args, shown, getattr(error, "errno", None)


ALL = {
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, eb.EventbraidError)
}
BASES = {
    eb.AppendError,
    eb.CommandError,
    eb.EventError,
    eb.EventbraidError,
    eb.LeaseError,
    eb.SagaError,
    eb.StoreError,
    errors.StoreUnusable,
}


def test_every_error_but_those_of_sagas_is_among_the_examples():
    examples = set(map(type, EXAMPLES)) - BASES
    assert {
        kind for kind in ALL - BASES if not issubclass(kind, eb.SagaError)
    } == examples


@pytest.mark.parametrize("kind", ALL - BASES, ids=lambda kind: kind.__name__)
def test_every_error_has_the_base_of_its_layer(kind):
    layers = BASES - {eb.EventbraidError, eb.AppendError, errors.StoreUnusable}
    bases = [base for base in layers if issubclass(kind, base)]
    # What is wrong with an argument or a value concerns every layer.
    is_of_all_layers = issubclass(kind, eb.errors.InvalidArgument | eb.InvalidValue)
    assert len(bases) == 1 or (is_of_all_layers and len(bases) <= 1)


def test_an_error_of_one_append_leaves_the_store_usable():
    for kind in ALL - BASES:
        is_of_an_append = issubclass(kind, eb.AppendError)
        assert not (is_of_an_append and issubclass(kind, errors.StoreUnusable)), kind


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "carry", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_errors_survive_the_way(error, carry):
    assert facts(carry(error)) == facts(error)


@pytest.mark.parametrize("name", errors.__all__)
def test_a_class_of_errors_is_named_and_pickled_by_its_public_path(name):
    """A private path would be invalid as soon as the class moves to another file."""
    kind = getattr(errors, name)
    assert (kind.__module__, kind.__qualname__) == ("eventbraid.errors", name)
    assert pickle.loads(pickle.dumps(kind)) is kind


def test_notes_survive_pickling():
    error = eb.errors.StoreClosed()
    error.add_note("while reading")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while reading"]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_show_their_message(error):
    assert str(error) == error.message != ""


def test_errors_are_what_built_in_handlers_look_for():
    full = next(error for error in EXAMPLES if isinstance(error, eb.errors.StorageFull))
    assert isinstance(full, OSError)
    assert full.errno == errno.ENOSPC
    assert issubclass(eb.errors.StoreUnavailable, OSError)
    assert issubclass(eb.errors.DeadlineExceeded, TimeoutError)
    assert issubclass(eb.errors.InvalidArgument, ValueError)
    assert issubclass(eb.InvalidValue, ValueError)


def test_a_conflict_names_each_stream_with_both_versions():
    conflict = eb.VersionConflict(
        [CONFLICT, eb.errors.ConflictedStream("account-b", expected=4, actual=5)]
    )
    assert "'account-a' (expected EXISTS, is at version 0)" in str(conflict)
    assert "'account-b' (expected version 4, is at version 5)" in str(conflict)


@pytest.mark.parametrize(
    ("expected", "actual", "remedy"),
    [
        (eb.EXISTS, 0, "append its first event"),
        (7, 3, "fewer events than expected"),
        (3, 7, "other events were appended first"),
        (eb.NO_STREAM, 1, "other events were appended first"),
    ],
)
def test_a_conflict_names_the_remedy_for_its_expectation(expected, actual, remedy):
    message = str(
        eb.VersionConflict([eb.errors.ConflictedStream("a", expected, actual)])
    )
    assert remedy in message
    assert ("other events" in message) == ("other events" in remedy)


def test_a_conflict_on_many_streams_has_a_short_message():
    failures = [
        eb.errors.ConflictedStream(f"a-{n}", eb.EXISTS, 0) for n in range(10_000)
    ]
    conflict = eb.VersionConflict(failures)
    assert len(conflict.failures) == 10_000
    assert "and 9992 more" in str(conflict)
    assert str(conflict).count("append its first event") == 1


def test_an_unknown_outcome_says_how_to_find_out():
    assert "'k'" in str(eb.OutcomeUnknown("why", idempotency_key="k"))
    assert "event ids" in str(eb.OutcomeUnknown("why"))


def test_a_rejection_keeps_its_own_facts():
    given = {"available": 3}
    rejected = eb.CommandRejected("insufficient_funds", facts=given)
    given["available"] = 4
    assert rejected.facts == {"available": 3}
    assert (
        str(eb.CommandRejected("closed", "The account is closed."))
        == "The account is closed."
    )


def test_who_cannot_share_a_store_is_told_the_reason_and_the_way_out():
    refused = eb.errors.SharingUnsupported("shop.braid", "it is on NFS")
    assert (refused.path, refused.reason) == ("shop.braid", "it is on NFS")
    assert "it is on NFS" in str(refused)
    assert 'mode="exclusive"' in str(refused)


def test_a_detached_store_is_named_with_what_to_do():
    detached = eb.errors.StoreDetached("shop.braid/coord.shm", "it was deleted")
    assert (detached.path, detached.reason) == (
        "shop.braid/coord.shm",
        "it was deleted",
    )
    assert "open it again" in str(detached)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "limit on open files"),
        (errno.EAGAIN, "ulimit -u"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENOENT, "check that the path exists"),
    ],
)
def test_an_exhausted_limit_is_named_instead_of_the_path(code, remedy):
    error = eb.errors.StoreUnavailable("shop.braid", "open", "refused", code)
    assert remedy in str(error)
    assert ("check that the path" in str(error)) == (code == errno.ENOENT)
