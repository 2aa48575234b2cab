"""Remove metadata from JPEG and PNG files without encoding their pixels again.

Rules: pure. Only known picture data is kept. A file with inconsistent parts gives None: its pixels must be written
anew. Must not know how to decode: the caller has decoded the file and knows that the pixels need no turning and no
other colours. This module cannot see bytes that a decoder skips inside a JPEG's compressed data; `Jpeg.run_alone` and
`garble` make the files with which a caller that can decode finds them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Part = bytes | memoryview
Run = tuple[int, int]
"""Start and end of compressed data that contains no marker."""

TAIL_BYTES = 8
"""So many bytes at the end of a run are garbled. A regular run has at most seven unused bits there."""
PROBES = tuple(bytes((97 * i + 13 * j * j) % 255 for j in range(16)) for i in range(32))
"""Data for one additional unit. Behind a regular run, some of the probes make the unit brighter than others."""
MAX_ROWS = 4000
PATTERNS = (b"\x5a", b"\xa5", b"\x00", b"\x3c", b"\x96", b"\x69")
"""Values to garble with. Under a single one, a bright picture may stay as bright."""

_AFTER_A_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A parsed JPEG: the parts to keep, and the runs of every scan as places in the original file."""

    parts: list[Part]
    scans: tuple[tuple[Run, ...], ...]
    width: int
    height: int
    unit: tuple[int, int]
    """Width and height in pixels of the unit that is coded together in a single scan."""
    interval: int
    """The number of units from one restart marker to the next; 0 for none."""

    def run_alone(self, data: bytes, n: int, probe: bytes) -> tuple[bytes, tuple[int, int]] | None:
        """Return a picture of run `n` of a single scan, followed by a probe, and the place of its next unit.

        The decoder takes the probe for that unit, unless the run has more bytes. None for a picture too high for
        another row.
        """
        across, down = -(-self.width // self.unit[0]), -(-self.height // self.unit[1])
        units = min(self.interval or across * down, across * down - n * self.interval)
        across = 1 if units < MAX_ROWS else across
        height = (units // across + 1) * self.unit[1]
        if height > 65_535:
            return None
        size = height.to_bytes(2) + (across * self.unit[0]).to_bytes(2)
        parts: list[Part] = []
        for part in self.parts:
            if part[1] in (0xC0, 0xC1):
                parts.append(bytes(part[:5]) + size + bytes(part[9:]))
            elif part[1] != 0xDD:
                parts.append(part)
            if part[1] == 0xDA:
                break
        start, end = self.scans[0][n]
        place = units % across * self.unit[0], units // across * self.unit[1]
        stuffed = data[end - 2 : end] == b"\xff\x00" and end - start > 1
        last, end = (0xFF, end - 2) if stuffed else (data[end - 1], end - 1)
        filling = (last ^ (last + 1)) >> 1  # the one-bits at its end are padding
        last = last & ~filling & 0xFF | probe[0] & filling
        behind = bytes((last, 0) if last == 0xFF else (last,)) + probe + b"\xff\xd9"
        return b"".join([*parts, memoryview(data)[start:end], behind]), place


def jpeg_parts(data: bytes) -> Jpeg | None:
    """Return the parsed JPEG; None for a file that is not plainly a header, tables and scans.

    Left out are EXIF, profiles, comments, thumbnails, tables that no scan uses, and all bytes after the end.
    """
    try:
        return _JpegParser(data).parse()
    except (IndexError, _Inconsistent):
        return None


class _Inconsistent(Exception):
    """The parts of a file are inconsistent."""


def _require(holds: bool) -> None:
    if not holds:
        raise _Inconsistent


class _JpegParser:
    """The parser of one JPEG: its segments in order, and its tables with whether a scan uses them."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._kept: list[tuple[Part, list[bytearray]]] = []
        """Each segment, and the tables of a table segment; a cleared table is left out."""
        self._runs: list[Run] = []
        """Start and end of every scan's data."""
        self._quantization: dict[int, bytearray] = {}
        self._huffman: dict[int, tuple[bytearray, bool]] = {}
        self._tables: dict[int, list[bytearray]] = {}
        self._frame: bytes = b""
        self._interval: int | None = None
        self._once: set[int] = set()

    def parse(self) -> Jpeg:
        data, at = self._data, 2
        while True:
            _require(data[at] == 0xFF)
            while data[at + 1] == 0xFF:  # padding
                at += 1
            marker = data[at + 1]
            if marker == 0xD9:
                return self._assembled()
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
            _require(end >= at + 4 and end <= len(data) and (marker == 0xFE or 0xC0 <= marker <= 0xEF))
            _require(not 0xD0 <= marker <= 0xD8)
            self._segment(marker, at, end)
            at = self._scan(end) if marker == 0xDA else end

    def _segment(self, marker: int, at: int, end: int) -> None:
        body = self._data[at + 4 : end]
        match marker:
            case 0xE0 if body[:5] == b"JFIF\0" and len(body) == 14 and body[12:] == b"\0\0":
                self._keep_once(marker, at, end)
            case 0xEE if body[:5] == b"Adobe" and len(body) == 12:
                self._keep_once(marker, at, end)
            case 0xDB:
                _require(not self._runs)
                self._keep_tables(marker, list(self._quantization_tables(body)))
            case 0xC4:
                self._keep_tables(marker, list(self._huffman_tables(body)))
            case 0xC0 | 0xC1 | 0xC2:
                _require(not self._frame and len(body) == 6 + 3 * body[5] and body[0] == 8 and 1 <= body[5] <= 4)
                self._frame = body
                self._kept.append((self._view[at:end], []))
            case 0xDD:
                _require(len(body) == 2 and self._interval is None)
                self._interval = int.from_bytes(body)
                self._kept.append((self._view[at:end], []))
            case 0xDA:
                _require(bool(self._frame) and len(body) == 4 + 2 * body[0])
                self._use(body)
                self._kept.append((self._view[at:end], []))
            case 0xFE | 0xDC:
                pass
            case _:
                _require(0xE0 <= marker <= 0xEF)

    def _keep_once(self, marker: int, at: int, end: int) -> None:
        if marker not in self._once:
            self._once.add(marker)
            self._kept.append((self._view[at:end], []))

    def _keep_tables(self, marker: int, tables: list[bytearray]) -> None:
        self._kept.append((bytes((0xFF, marker)), tables))

    def _quantization_tables(self, body: bytes) -> Iterator[bytearray]:
        at = 0
        while at < len(body):
            length = 129 if body[at] >> 4 else 65
            table = bytearray(body[at : at + length])
            _require(len(table) == length and body[at] & 15 not in self._quantization)
            self._quantization[body[at] & 15] = table
            yield table
            at += length

    def _huffman_tables(self, body: bytes) -> Iterator[bytearray]:
        at = 0
        while at < len(body):
            length = 17 + sum(body[at + 1 : at + 17])
            table = bytearray(body[at : at + length])
            _require(len(table) == length)
            self._drop_unused(body[at])
            self._huffman[body[at]] = table, False
            yield table
            at += length

    def _drop_unused(self, name: int) -> None:
        table, used = self._huffman.get(name, (bytearray(), True))
        if not used:
            table.clear()

    def _use(self, body: bytes) -> None:
        """Mark the Huffman tables that a scan reads: for differences, the rest, or (in a sequential scan) both."""
        progressive = self._frame_marker() == b"\xc2"
        first, _, approximation = body[-3:]
        for name in body[2 : 2 + 2 * body[0] : 2]:
            differences, rest = name >> 4, 0x10 | name & 15
            wanted = [differences, rest]
            if progressive:
                wanted = [rest] if first else [] if approximation >> 4 else [differences]
            for one in wanted:
                # A table may hold any value under an unused code; a value that occurs twice shows that there are unused
                # codes.
                _require(
                    one in self._huffman and len(set(self._huffman[one][0][17:])) == len(self._huffman[one][0]) - 17
                )
                self._huffman[one] = self._huffman[one][0], True

    def _frame_marker(self) -> bytes:
        return next(bytes(part[1:2]) for part, _ in self._kept if part[1] in (0xC0, 0xC1, 0xC2) and len(part) > 2)

    def _scan(self, at: int) -> int:
        found = _AFTER_A_SCAN.search(self._data, at)
        _require(found is not None)
        assert found
        end = found.start()
        while self._data[end - 1] == 0xFF:  # padding before the marker
            end -= 1
        _require(end > at and self._data.find(b"\xff\xff", at, end) < 0)
        self._runs.append((at, end))
        self._kept.append((self._view[at:end], []))
        return end

    def _assembled(self) -> Jpeg:
        _require(bool(self._runs))
        components = [self._frame[6 + 3 * i : 9 + 3 * i] for i in range(self._frame[5])]
        for name, table in self._quantization.items():
            if name not in {component[2] for component in components}:
                table.clear()
        for name in self._huffman:
            self._drop_unused(name)
        parts: list[Part] = [self._view[:2]]
        for part, tables in self._kept:
            body = b"".join(tables)
            if len(part) > 2:
                parts.append(part)
            elif body:
                parts.append(bytes(part) + (len(body) + 2).to_bytes(2) + body)
        parts.append(b"\xff\xd9")
        height, width = int.from_bytes(self._frame[1:3]), int.from_bytes(self._frame[3:5])
        widest, highest = max(c[1] >> 4 for c in components), max(c[1] & 15 for c in components)
        unit = (8, 8) if len(components) == 1 else (8 * widest, 8 * highest)
        scans = tuple(self._runs_of(at, end) for at, end in self._runs)
        made = Jpeg(parts, scans, width, height, unit, self._interval or 0)
        if len(scans) == 1:
            units = -(-width // unit[0]) * -(-height // unit[1])
            _require(len(scans[0]) == -(-units // (made.interval or units)))
        else:
            _require(all(len(scan) == 1 for scan in scans))
        return made

    def _runs_of(self, at: int, end: int) -> tuple[Run, ...]:
        runs = []
        for found in _RESTART.finditer(self._data, at, end):
            runs.append((at, found.start()))
            at = found.end()
        return (*runs, (at, end))


def garble(data: bytes, run: Run, pattern: bytes) -> bytes:
    """Return the file with other bytes at the end of a run. Pixels that stay the same do not depend on those bytes."""
    start, end = run
    first = max(start, end - TAIL_BYTES)
    if first > start and data[first - 1] == 0xFF:  # the second byte of a pair
        first += 1
    others = bytes(byte ^ pattern[0] if pattern[0] else 0 for byte in data[first:end]).replace(b"\xff", b"\x7e")
    return b"".join([memoryview(data)[:first], others, memoryview(data)[end:]])


def jpeg_scans(data: bytes) -> int:
    """Return the number of scans of a JPEG; at least that number for a file with inconsistent parts."""
    found = jpeg_parts(data)
    return len(found.scans) if found else data.count(b"\xff\xda")


# PNG -----------------------------------------------------------------------------------------------------------------

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By colour type. Pictures with a palette are written anew."""
_SIZES = {b"sRGB": (1, 1), b"gAMA": (4, 4), b"cHRM": (32, 32), b"pHYs": (9, 9), b"sBIT": (1, 4), b"bKGD": (2, 6)}
"""Chunks that say how to show the pixels, with their shortest and longest length. All others may describe the
photographer."""
_SPECIAL = frozenset((b"tRNS", b"acTL"))
"""Transparency outside the pixels, and animation: such a picture is written anew."""


def png_has_end(data: bytes) -> bool:
    """Return whether the chunks of a PNG reach its last one, and whether that one is complete."""
    at, name = 8, b""
    while name != b"IEND" and at + 12 <= len(data):
        name = data[at + 4 : at + 8]
        at += 12 + int.from_bytes(data[at : at + 4])
    return name == b"IEND" and at <= len(data)


def png_parts(data: bytes) -> list[memoryview] | None:
    """Return the parts of a PNG with 8 bits a channel, without texts, times and bytes after its end.

    None for a file with bytes that belong to no pixel, or with interlaced pixels.
    """
    view, at, seen = memoryview(data), 8, b""
    parts, pixels = [view[:8]], list[memoryview]()
    once: set[bytes] = set()
    if data[8:16] != b"\0\0\0\rIHDR" or data[24] != 8 or data[25] not in _CHANNELS or data[28]:
        return None
    while at + 12 <= len(data):
        name, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        if name in _SPECIAL or end > len(data) or (name == b"IDAT" and pixels and seen != b"IDAT"):
            return None
        if name == b"IDAT":
            pixels.append(view[at + 8 : end - 4])
        elif name == b"IEND":
            whole = end == at + 12 and _is_complete_stream(pixels, data)
            return [*parts, view[at:end]] if whole else None
        shown = name in _SIZES and name not in once and _SIZES[name][0] <= end - at - 12 <= _SIZES[name][1]
        if name in (b"IHDR", b"IDAT") or (
            shown and int.from_bytes(data[end - 4 : end]) == zlib.crc32(view[at + 4 : end - 4])
        ):
            parts.append(view[at:end])
        once.add(name)
        at, seen = end, name
    return None


def _is_complete_stream(pixels: Sequence[memoryview], data: bytes) -> bool:
    """Return whether compressed data is one stream of exactly as many bytes as the header demands, and nothing else."""
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    left = height * (1 + width * _CHANNELS[data[25]])
    stream = zlib.decompressobj()
    try:
        for i, part in enumerate(pixels):
            if stream.eof or not len(part):
                return False
            given: Part = part
            while given:
                left -= len(stream.decompress(given, 1 << 20))
                given = stream.unconsumed_tail
            if stream.unused_data or left < 0 or (stream.eof and i < len(pixels) - 1):
                return False
    except zlib.error:
        return False
    return stream.eof and left == 0


def join_parts(data: bytes, parts: Sequence[Part]) -> bytes:
    """Return the parts as a file; `data` itself if no part was left out."""
    return data if sum(map(len, parts)) == len(data) else b"".join(parts)
