"""Metadata that no writer of the library produces, in a frame with valid checksums.

This changes a small frame in place, by the description in `docs/format.md`. A missing
frame, or one whose hash differs from the hash that is computed here, is an error, because
the forgery would prove nothing.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER, _TRAILER = 80, 16
_WORD = (1 << 64) - 1
# The first 128 bytes of XXH3's default secret.
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
)


def xxh3(data: bytes) -> int:
    """XXH3, 64 bits, seed 0, of 17 to 128 bytes."""
    assert 16 < len(data) <= 128, len(data)

    def mixed(at: int, secret: int) -> int:
        low, high = struct.unpack_from("<QQ", data, at % len(data))
        secret_low, secret_high = struct.unpack_from("<QQ", _SECRET, secret)
        product = (low ^ secret_low) * (high ^ secret_high)
        return (product & _WORD) ^ (product >> 64)

    hashed = len(data) * 0x9E3779B185EBCA87
    for pair in range((len(data) - 1) // 32 + 1):
        hashed += mixed(16 * pair, 32 * pair)
        hashed += mixed(-16 * (pair + 1), 32 * pair + 16)
    hashed &= _WORD
    hashed ^= hashed >> 37
    hashed = hashed * 0x165667919E3779F9 & _WORD
    return hashed ^ (hashed >> 32)


def crc32c(data: bytes) -> int:
    """The Castagnoli CRC."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def forge(store: Path, before: bytes, after: bytes) -> None:
    """Replace bytes of a frame in a store's first segment, which ends with it then.

    Args:
        store: The directory of a store that was not closed, and that no process has open.
        before: Bytes of the frame's payload, which are nowhere else.
        after: Bytes of the same length.
    """
    assert len(before) == len(after)
    segment = store / "log" / "0000000001.hot"
    log = bytearray(segment.read_bytes())
    at = log.rindex(b"EBF1", 0, log.index(before))
    (length,) = struct.unpack_from("<I", log, at + 8)
    (streams,) = struct.unpack_from("<I", log, at + 24)
    payload = slice(at + _HEADER + streams, at + length - _TRAILER)
    chained = slice(at + 8, at + _HEADER + streams)
    (hashed,) = struct.unpack_from("<Q", log, at + 64)
    assert xxh3(log[payload]) == hashed, "the payload hash is computed differently"
    assert log.count(before) == log[payload].count(before) == 1
    log[payload] = log[payload].replace(before, after)
    struct.pack_into("<Q", log, at + 64, xxh3(log[payload]))
    secret = (store / "IDENTITY").read_bytes()[32:48]
    address = struct.pack("<Q", at)
    crc = crc32c(secret + address + log[at + 8 : at + _HEADER])
    struct.pack_into("<I", log, at + 4, crc)
    struct.pack_into("<Q", log, at + length - _TRAILER, xxh3(log[chained]))
    # A later sync marker would continue another log.
    log[at + length :] = bytes(len(log) - at - length)
    segment.write_bytes(log)
