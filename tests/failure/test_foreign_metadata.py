"""Invalid metadata under valid checksums is reported, and hides no other event.

The hazard: a page of events that can't be read because one of them was written by another
program, or a panic where a mapping was to be made of junk.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import eventbraid as eb
from tests.failure.forging import crc32c, forge

WRITTEN = json.dumps({"k": "v" * 20}, separators=(",", ":")).encode()
LENGTH = len(WRITTEN)

JUNK = {
    "no JSON": b"x" * LENGTH,
    "bytes that are no text": b"\xff" * LENGTH,
    "zeros": bytes(LENGTH),
    "an array": b"[]".ljust(LENGTH),
    "null": b"null".ljust(LENGTH),
    "a number for a value": b'{"k":1}'.ljust(LENGTH),
    "an object for a value": b'{"k":{}}'.ljust(LENGTH),
    "half of a character": b'{"k":"\\ud800"}'.ljust(LENGTH),
    "cut short": b'{"k":"vvv'.ljust(LENGTH),
    "something after it": b'{"k":"v"} {}'.ljust(LENGTH),
    "many brackets": b"[" * LENGTH,
}


def test_the_checksum_is_that_of_the_format():
    # The example of RFC 3720. The other hash is compared with that of each forged frame.
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.fixture
def forged(tmp_path: Path) -> Iterator[Path]:
    """A store of two events whose process ended; the second event has metadata."""
    with eb.open(tmp_path / "store") as store:
        store.append([("a", "first", b"1")])
        store.append([eb.NewEvent("a", "second", b"2", metadata=json.loads(WRITTEN))])
        shutil.copytree(tmp_path / "store", tmp_path / "left")
    return tmp_path / "left"


def test_a_forgery_with_the_original_bytes_changes_nothing(forged):
    forge(forged, WRITTEN, WRITTEN)
    with eb.open(forged) as store:
        assert [event.metadata for event in store.read_all()] == [
            {},
            json.loads(WRITTEN),
        ]


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_invalid_metadata_is_reported_with_its_position_and_the_rest_is_read(
    forged, junk
):
    forge(forged, WRITTEN, junk)
    with eb.open(forged) as store:
        store.append([("a", "third", b"3")])
        store.verify()
        first, second, third = store.read_all()
        with pytest.raises(eb.errors.EventDecodeError, match="its metadata") as caught:
            _ = second.metadata
        error = caught.value
        assert (error.type, error.stream, error.position) == ("second", "a", 2)
        assert (second.data, second.version) == (b"2", 2)
        assert [(e.data, dict(e.metadata)) for e in (first, third)] == [
            (b"1", {}),
            (b"3", {}),
        ]
