"""A store where locks don't reach everyone who may have its files.

The hazard: two machines that each believe to be alone, and overwrite each other's log.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

import eventbraid as eb
from tests.contract import programs
from tests.mounts import marked, unmount

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/fuse").exists(),
        reason="needs the right to mount a file system, and FUSE",
    ),
]

# A file system of one empty directory in which nothing can be made.
FILE_SYSTEM = """
    import ctypes, errno, os, struct, sys

    LOOKUP, FORGET, GETATTR, STATFS, INIT, READDIR, FORGET_MANY = 1, 2, 3, 17, 26, 28, 42
    ROOT = struct.pack("<6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o40755, 2, 0, 0, 0, 4096, 0)
    ANSWERS = {
        INIT: struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 1, 1, 4096, 1, 1, *[0] * 9),
        GETATTR: struct.pack("<QII", 0, 0, 0) + ROOT,
        STATFS: struct.pack("<5Q10I", 9, 9, 9, 9, 9, 4096, 255, 4096, *[0] * 7),
        READDIR: b"",
    }
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    refused = libc.mount(b"none", sys.argv[1].encode(), b"fuse", 0, options)
    print(errno.errorcode[ctypes.get_errno()] if refused else "mounted", flush=True)
    while not refused:
        request = os.read(device, 1 << 20)
        _, operation, number = struct.unpack_from("<IIQ", request)
        if operation in (FORGET, FORGET_MANY):
            continue
        error = 0 if operation in ANSWERS else errno.ENOENT if operation == LOOKUP else errno.ENOSYS
        body = ANSWERS.get(operation, b"")
        os.write(device, struct.pack("<IiQ", 16 + len(body), -error, number) + body)
"""


@pytest.fixture
def mounted(tmp_path):
    """A directory on a file system that could be anyone's."""
    place = tmp_path / "mounted"
    place.mkdir()
    with programs.started(FILE_SYSTEM, place) as serving, marked(place):
        answer = programs.line(serving)
        if answer != "mounted":
            pytest.skip(f"can't mount a file system: {answer}")
        try:
            yield place
        finally:
            unmount(place)


def test_sharing_is_refused_with_the_reason_and_the_way_out(mounted):
    async def awaited():
        await eb.open_async(mounted)

    for opening in (
        lambda: eb.open(mounted),
        lambda: eb.open(mounted, mode="shared", read_only=True),
        lambda: asyncio.run(awaited()),
    ):
        with pytest.raises(eb.errors.SharingUnsupported) as refused:
            opening()
        assert refused.value.path == str(mounted)
        assert "FUSE" in refused.value.reason
        assert 'mode="exclusive"' in str(refused.value)


def test_the_way_out_leads_on(mounted):
    """As far as this file system, where nothing can be made."""
    with pytest.raises(eb.errors.StoreUnavailable) as refused:
        eb.open(mounted, mode="exclusive")
    assert refused.value.path.startswith(str(mounted))
