"""Tables of what is no image: volumes, DICOM files, sounds, captions."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

from .support import table


def scans(path: Path) -> None:
    """Make the table ``scans`` of a .npz and, if pydicom is there, a DICOM file in each row."""
    rows = [(key, npz(key), dicom(key)) for key in range(1, 21)]
    table(path, rows, columns="id INTEGER PRIMARY KEY, scan BLOB, dicom BLOB", name="scans")


def clips(path: Path) -> None:
    """Make the table ``clips`` of sounds of half a second to two seconds, at 8 kHz."""
    rows = [(key, wav(4000 + 600 * key)) for key in range(1, 21)]
    table(path, rows, columns="id INTEGER PRIMARY KEY, audio BLOB", name="clips")


def captions(path: Path) -> None:
    """Make the table ``captions`` of texts that differ in length."""
    rows = [(key, " ".join(f"word{i % 7}" for i in range(key))) for key in range(1, 21)]
    table(path, rows, columns="id INTEGER PRIMARY KEY, caption TEXT", name="captions")


def npz(seed: int) -> bytes:
    out = io.BytesIO()
    volume = np.random.default_rng(seed).random((8, 32, 32), np.float32)
    np.savez_compressed(out, volume=volume)
    return out.getvalue()


def wav(samples: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((3000 * np.sin(np.arange(samples) / 5)).astype("<i2").tobytes())
    return out.getvalue()


def dicom(seed: int) -> bytes | None:
    try:
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    except ImportError:
        return None
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.{seed}"
    out = io.BytesIO()
    image = FileDataset(out, {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, f"1.2.{seed}"
    image.Rows = image.Columns = 32
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 0
    pixels = np.random.default_rng(seed).integers(0, 4096, (32, 32), np.uint16)
    image.PixelData = pixels.tobytes()
    image.save_as(out, enforce_file_format=True)
    return out.getvalue()
