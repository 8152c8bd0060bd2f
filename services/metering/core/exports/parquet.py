"""A table as Apache Parquet, written here: text and whole numbers, no compression, one group of rows.

The format is small where nothing is optional: a page a column, each after a header in Thrift's compact protocol, then a
footer that says where they are (github.com/apache/parquet-format). The library for it is forty times as large as all
of Millrace; others read what is written here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

MAGIC: Final = b"PAR1"
INT64, BYTE_ARRAY = 2, 6  # Physical types.
REQUIRED, UTF8, PLAIN, RLE, UNCOMPRESSED, DATA_PAGE = 0, 0, 0, 3, 0, 0
T_I32, T_I64, T_BINARY, T_LIST, T_STRUCT = 5, 6, 8, 9, 12  # Types of Thrift's compact protocol.
LONG_LIST: Final = 15  # From this length on a list's length has bytes of its own.
Field = tuple[int, int, bytes]


def parquet_of(names: Sequence[str], rows: Sequence[Sequence[str | int]]) -> bytes:
    """The rows under these names; a column is of whole numbers if its first value is one, else of text."""
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    kinds = [INT64 if column and isinstance(column[0], int) else BYTE_ARRAY for column in columns]
    body, chunks, total = bytearray(MAGIC), [], 0
    for name, kind, column in zip(names, kinds, columns, strict=True):
        page = _page(column)
        at, size = len(body), len(page)
        body += page
        total += size
        described = _column(name, kind, len(rows), at, size)
        chunks.append(_struct((2, T_I64, _number(at)), (3, T_STRUCT, described)))
    schema = [_struct((4, T_BINARY, _text("schema")), (5, T_I32, _number(len(names))))]
    schema += [_element(name, kind) for name, kind in zip(names, kinds, strict=True)]
    group = _struct((1, T_LIST, _list(T_STRUCT, chunks)), (2, T_I64, _number(total)), (3, T_I64, _number(len(rows))))
    footer = _struct(
        (1, T_I32, _number(1)),
        (2, T_LIST, _list(T_STRUCT, schema)),
        (3, T_I64, _number(len(rows))),
        (4, T_LIST, _list(T_STRUCT, [group])),
        (6, T_BINARY, _text("millrace")),
    )
    return bytes(body) + footer + struct.pack("<I", len(footer)) + MAGIC


def _page(column: Sequence[str | int]) -> bytes:
    """A page's header and its values, plain: eight bytes a number, four bytes of length before a text."""
    values = bytearray()
    for each in column:
        if isinstance(each, int):
            values += struct.pack("<q", each)
        else:
            encoded = each.encode()
            values += struct.pack("<I", len(encoded)) + encoded
    counted = ((1, len(column)), (2, PLAIN), (3, RLE), (4, RLE))
    header = _struct(
        (1, T_I32, _number(DATA_PAGE)),
        (2, T_I32, _number(len(values))),
        (3, T_I32, _number(len(values))),
        (5, T_STRUCT, _struct(*((name, T_I32, _number(value)) for name, value in counted))),
    )
    return header + bytes(values)


def _column(name: str, kind: int, rows: int, at: int, size: int) -> bytes:
    return _struct(
        (1, T_I32, _number(kind)),
        (2, T_LIST, _list(T_I32, [_number(PLAIN)])),
        (3, T_LIST, _list(T_BINARY, [_text(name)])),
        (4, T_I32, _number(UNCOMPRESSED)),
        (5, T_I64, _number(rows)),
        (6, T_I64, _number(size)),
        (7, T_I64, _number(size)),
        (9, T_I64, _number(at)),
    )


def _element(name: str, kind: int) -> bytes:
    is_text = ((6, T_I32, _number(UTF8)),) if kind == BYTE_ARRAY else ()
    return _struct((1, T_I32, _number(kind)), (3, T_I32, _number(REQUIRED)), (4, T_BINARY, _text(name)), *is_text)


def _struct(*fields: Field) -> bytes:
    """Fields in order of their numbers, each after how far its number is from the one before; then a stop."""
    written, last = bytearray(), 0
    for number, kind, value in fields:
        written.append((number - last) << 4 | kind)
        written += value
        last = number
    return bytes(written) + b"\0"


def _list(kind: int, items: Sequence[bytes]) -> bytes:
    size = len(items)
    head = bytes([size << 4 | kind]) if size < LONG_LIST else bytes([LONG_LIST << 4 | kind]) + _varint(size)
    return head + b"".join(items)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _varint(len(encoded)) + encoded


def _number(value: int) -> bytes:
    """Zigzag, so that small negative numbers are short too."""
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
