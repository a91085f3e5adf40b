"""What an image column holds in place of images: paths, addresses, or bytes written as text.

People keep images in these ways, and no decoder can say more about them than that it does not know
the format. The kernel refuses them; this finds the words.
"""

from __future__ import annotations

import base64
import re

from ..errors import NOT_AN_IMAGE
from .values import TEXT, TOO_LARGE, Values

LONGEST_PATH = 4096

_MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|GIF8|II\*\0|MM\0\*|BM", re.DOTALL)
_SUFFIX = r"\.(jpe?g|jfif|png|webp|gif|tiff?|bmp|avif|hei[cf]|jp2|j2k|p[bgpn]m|dng|npy)"
_PATH = re.compile(rf"[^\x00-\x1f]*{_SUFFIX}\s*|(/|[A-Za-z]:\\|\.{{1,2}}/)[^\x00-\x1f]+", re.I)
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|az|file|hdfs)://[^\x00-\x20]+\s*", re.I)
_DATA_URL = re.compile(r"data:[\w.+/-]*;base64,.*", re.I | re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{16}")
_HEX = re.compile(r"(\\x|0x)?((?:[0-9A-Fa-f]{2}){12})")

POINTERS = ("a file path", "an address")
"""What says only where an image is."""

POSTGRES = {
    "base64 text": "decode(encode({0}, 'escape'), 'base64')",
    "hexadecimal text": "decode(encode({0}, 'escape'), 'hex')",
    "a data URL": "decode(split_part(encode({0}, 'escape'), ',', 2), 'base64')",
}
"""Expressions that decode a bytea column, by what it holds."""


def kind_of(value: bytes | str) -> str:
    """Return "a file path", "an address", "a data URL", "base64 text" or "hexadecimal text".

    Parameters
    ----------
    value
        The value, or its beginning. It is no image in a known format.

    Returns
    -------
    str
        What it is; "" if it is none of these.
    """
    text = value if isinstance(value, str) else value[: LONGEST_PATH + 1].decode("latin-1")
    text = text.lstrip()
    for kind, pattern in (("a data URL", _DATA_URL), ("an address", _ADDRESS)):
        if pattern.fullmatch(text):
            return kind
    if (digits := _HEX.match(text)) and _MAGIC.match(bytes.fromhex(digits[2])):
        return "hexadecimal text"
    if (letters := _BASE64.match(text)) and _MAGIC.match(base64.b64decode(letters[0])):
        return "base64 text"
    if len(text) <= LONGEST_PATH and _PATH.fullmatch(text):
        return "a file path"
    return ""


def why_not_an_image(value: bytes | str, column: str, *, is_postgres: bool) -> str:
    """Return the reason for a row whose image is one of these, and what to do; or ""."""
    kind = kind_of(value)
    if not kind:
        return ""
    remedy = _remedy(kind, value, column, is_postgres)
    return f"column {column!r} holds {kind}, {NOT_AN_IMAGE}: {remedy}"


def why_no_blob(values: Values, row: int, column: str, *, limit: int) -> str:
    """Return the reason for a row whose value is not a blob, or is too large a one.

    Parameters
    ----------
    values, row
        The values, and the index of this one.
    column
        The name of the column.
    limit
        The value of ``max_blob_bytes``.
    """
    kind = values.kinds[row]
    if kind == TOO_LARGE:
        size = int(values.blobs[row, 1])
        return (
            f"column {column!r} holds {size if size >= 0 else f'more than {limit}'} bytes; the "
            f"limit is {limit}; raise max_blob_bytes to allow it"
        )
    if kind == TEXT:
        start = values.start(row, LONGEST_PATH + 1).decode("utf-8", "replace")
        return why_not_an_image(start, column, is_postgres=False) or (
            f"column {column!r} is text, not a blob; if the text is an image's bytes, read them "
            f'with query="SELECT ..., CAST({column} AS BLOB) AS {column} FROM ..."'
        )
    value = values.value(row)
    what = "NULL" if value is None else f"{type(value).__name__}, not a blob"
    return f"column {column!r} is {what}"


def _to_read_files(path: bytes | str, column: str) -> str:
    """Return what reads the files of a column of paths, of which this is one."""
    if isinstance(path, bytes):
        path = path.decode("utf-8", "backslashreplace")
    folder, slash, _ = path.rpartition("/")
    if not path.startswith("/"):
        folder = "/the/folder"
    field = f'fields={{"image": Image("{column}", files="{folder or slash}")}} reads the files'
    if not path.startswith("/"):
        return f"{field}, whose paths are relative to that folder"
    # The paths of other rows may begin with another folder, which only the user knows.
    start = len(folder) + 2
    return (
        f"{field}, whose paths have to be relative to that folder: "
        f'query="SELECT ..., substr({column}, {start}) AS {column} FROM ..."'
    )


def _remedy(kind: str, value: bytes | str, column: str, is_postgres: bool) -> str:
    if kind == "a file path":
        return _to_read_files(value, column)
    if kind in POINTERS:
        return (
            "fastloader reads no addresses; download the files, and store their paths or the "
            "images themselves"
        )
    if is_postgres:
        cast = POSTGRES[kind].format(column)
        return f'decode it in the query: query="SELECT ..., {cast} AS {column} FROM ..."'
    how = "bytes.fromhex()" if kind == "hexadecimal text" else "base64.b64decode()"
    return f"store the bytes themselves as a blob; Python's {how} returns them"
