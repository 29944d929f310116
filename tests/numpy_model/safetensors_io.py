# SPDX-License-Identifier: Apache-2.0
"""Reads and writes safetensors files: u64 little-endian header length, JSON header, data."""

import json
import struct
from typing import NamedTuple

import numpy as np

from fp32 import F32, from_bf16_bits, to_bf16_bits

# BF16 data is held as its bit patterns.
_NUMPY_DTYPE = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "I8": "|i1", "U8": "|u1"}
_ALIGNMENT = 8


class Tensor(NamedTuple):
    dtype: str  # a key of _NUMPY_DTYPE
    data: np.ndarray

    def f32(self):
        """The values widened exactly to fp32."""
        return from_bf16_bits(self.data) if self.dtype == "BF16" else self.data.astype(F32)


def tensor(values):
    """A Tensor whose dtype follows the array's: float64 and int64 have none and are refused."""
    values = np.asarray(values)
    names = {np.dtype(t): name for name, t in _NUMPY_DTYPE.items() if name != "BF16"}
    return Tensor(names[values.dtype], values)


def bf16(values):
    """fp32 values -> a BF16 Tensor, rounded to nearest even."""
    return Tensor("BF16", to_bf16_bits(values))


def i32(value):
    """An integer scalar as an I32 Tensor of shape [1]."""
    return Tensor("I32", np.array([value], np.int32))


def f32(value):
    """A scalar as an F32 Tensor of shape [1]."""
    return Tensor("F32", np.array([value], F32))


def write_safetensors(path, tensors):
    """Writes {name: Tensor}; wider dtypes first, so that every tensor is aligned to its element without holes."""
    header, chunks, offset = {}, [], 0
    for name, t in sorted(tensors.items(), key=lambda item: -np.dtype(_NUMPY_DTYPE[item[1].dtype]).itemsize):
        data = np.ascontiguousarray(t.data, _NUMPY_DTYPE[t.dtype]).tobytes()
        header[name] = {"dtype": t.dtype, "shape": list(t.data.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def read_safetensors(path):
    """{name: Tensor} of a file that `write_safetensors` wrote."""
    with open(path, "rb") as file:
        blob = file.read()
    (length,) = struct.unpack_from("<Q", blob)
    data = blob[8 + length :]
    tensors = {}
    for name, entry in json.loads(blob[8 : 8 + length]).items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[begin:end], _NUMPY_DTYPE[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = Tensor(entry["dtype"], array)
    return tensors
