"""Make TIFFs that Pillow cannot write, and other files that Pillow opens."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP, SAMPLES, ROWS, BYTES = (
    256, 257, 258, 259, 262, 273, 277, 278, 279,
)  # fmt: skip
TILE_WIDTH, TILE_HEIGHT, TILE, TILE_BYTES, EXTRA = 322, 323, 324, 325, 338


def tiff(
    width: int,
    height: int,
    data: bytes,
    *,
    bits: tuple[int, ...] = (8,),
    photometric: int = 1,
    deflate: bool = False,
    big_endian: bool = False,
    tile: tuple[int, int] | None = None,
    tags: dict[int, int] | None = None,
) -> bytes:
    """Return a TIFF of one strip or tile with these samples."""
    order = ">" if big_endian else "<"
    data = zlib.compress(data, 9) if deflate else data
    found: dict[int, tuple[int, ...]] = {
        WIDTH: (width,), HEIGHT: (height,), BITS: bits, COMPRESSION: (8 if deflate else 1,),
        PHOTOMETRIC: (photometric,), SAMPLES: (len(bits),),
        **{tag: (value,) for tag, value in (tags or {}).items()},
    }  # fmt: skip
    if tile:
        found |= {TILE_WIDTH: tile[:1], TILE_HEIGHT: tile[1:], TILE: (0,), TILE_BYTES: (len(data),)}
    else:
        found |= {STRIP: (0,), ROWS: (height,), BYTES: (len(data),)}
    after = 8 + 2 + 12 * len(found) + 4
    found[TILE if tile else STRIP] = (after,)
    longer = b""
    entries = struct.pack(order + "H", len(found))
    for tag, values in sorted(found.items()):
        type_, letter = (3, "H") if tag == BITS else (4, "I")
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            packed, longer = (
                struct.pack(order + "I", after + len(data) + len(longer)),
                (longer + packed),
            )
        entries += struct.pack(order + "HHI", tag, type_, len(values)) + packed.ljust(4, b"\0")
    start = (b"MM" if big_endian else b"II") + struct.pack(order + "HI", 42, 8)
    return start + entries + bytes(4) + data + longer


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    """Return the file that Pillow makes of an image."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def empty_gif(width: int, height: int) -> bytes:
    """Return 35 bytes that claim to be an image of any size and hold one pixel."""
    start = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0\xff\xff\xff"
    return start + b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0;"


def ico(frame: bytes) -> bytes:
    """Return an icon whose directory claims 8 x 8 pixels."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 8, 8, 0, 0, 1, 8, len(frame), 22) + frame


def icns(frame: bytes) -> bytes:
    """Return an icon whose directory claims 128 x 128 pixels."""
    return struct.pack(">4sI4sI", b"icns", 16 + len(frame), b"ic07", 8 + len(frame)) + frame


def blp(frame: bytes) -> bytes:
    """Return a texture around a JPEG whose header claims 8 x 8 pixels."""
    header = b"BLP1" + struct.pack("<iIIIii", 0, 0, 8, 8, 0, 0)
    at = struct.pack("<16I", len(header) + 132, *[0] * 15)
    return header + at + struct.pack("<16I", len(frame), *[0] * 15) + bytes(4) + frame


def dcx(frame: bytes) -> bytes:
    """Return a fax of one page, which is a PCX."""
    return struct.pack("<III", 0x3ADE68B1, 12, 0) + frame
