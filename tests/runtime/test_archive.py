"""Zips that no exporter wrote: refused whole, by the name of the entry, before anything is read from them."""

from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from zipfile import ZipInfo

import pytest

from kdcompress_runtime import Bundle, BundleError, BundleUnsafeError, KdcompressError, archive
from kdcompress_runtime.archive import is_plain_name


@pytest.fixture
def packed(bundle_path, tmp_path):
    """A good bundle as a zip."""
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for file in bundle_path.iterdir():
            target.write(file, file.name)
    return path


def add(path, entry, content=b"x", method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "a") as target:
        target.writestr(entry, content, compress_type=method)


def of_kind(name, mode):
    entry = ZipInfo(name)
    entry.external_attr = (mode | 0o644) << 16
    return entry


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../x", "climbs"),
        ("a/../../x", "climbs"),
        ("a/..", "climbs"),
        ("..", "climbs"),
        ("/etc/x", "absolute"),
        ("//host/x", "absolute"),
        ("C:/x", "absolute"),
        ("c:x", "absolute"),
        ("..\\x", "backslash"),
        ("\\\\host\\x", "backslash"),
        ("a\\x", "backslash"),
        ("a\nb", "control"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(packed, name, words):
    entry = ZipInfo("placeholder")
    entry.filename = entry.orig_filename = name
    add(packed, entry)
    with pytest.raises(BundleUnsafeError) as caught:
        Bundle.open(packed)
    assert f"entry {name!r} is refused: " in str(caught.value)
    assert words in str(caught.value)
    assert isinstance(caught.value, (BundleError, KdcompressError, ValueError))


def test_a_name_cut_by_a_nul_is_refused(packed):
    add(packed, "tokens.txtXtail")
    content = packed.read_bytes()
    packed.write_bytes(content.replace(b"tokens.txtXtail", b"tokens.txt\0tail"))
    with pytest.raises(BundleUnsafeError, match=r"tokens\.txt\\x00tail"):
        Bundle.open(packed)


@pytest.mark.parametrize("name", ["tokens.txt", "TOKENS.TXT", "Bundle.json"])
def test_a_file_that_stands_twice_is_refused(packed, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, for the writer
        add(packed, name)
    with pytest.raises(BundleUnsafeError, match=f"{name}.*twice"):
        Bundle.open(packed)


@pytest.mark.parametrize(
    ("mode", "words"), [(stat.S_IFLNK, "symbolic link"), (stat.S_IFIFO, "device"), (stat.S_IFCHR, "device")]
)
def test_links_and_devices_are_refused(packed, mode, words):
    add(packed, of_kind("link.onnx", mode), b"/etc/passwd")
    with pytest.raises(BundleUnsafeError, match=rf"link\.onnx.*{words}"):
        Bundle.open(packed)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bound_are_refused(packed, method):
    add(packed, "more.onnx", b"x" * 1000, method)
    with pytest.raises(BundleUnsafeError, match=r"more\.onnx.*not deflate"):
        Bundle.open(packed)


def test_encrypted_entries_are_refused(packed):
    add(packed, "secret.onnx")
    content = bytearray(packed.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    packed.write_bytes(bytes(content))
    with pytest.raises(BundleUnsafeError, match=r"secret\.onnx.*encrypted"):
        Bundle.open(packed)


def test_a_bomb_is_refused_without_unpacking_it(packed):
    add(packed, "bomb.onnx", bytes(archive.MAX_TEXT_BYTES + 1), zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleUnsafeError, match=r"bomb\.onnx.*zip bomb"):
        Bundle.open(packed)


@pytest.mark.parametrize(("name", "size"), [("notes.txt", 2**26 + 1), ("model.int8.onnx", 2**31 + 1)])
def test_entries_larger_than_any_bundle_has_are_refused(packed, name, size):
    """The claim alone is enough: sizes stand in the directory of the zip."""
    add(packed, name)
    content = bytearray(packed.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", size, size)
    packed.write_bytes(bytes(content))
    with pytest.raises(BundleUnsafeError, match=f"{name}.*{size} bytes are more than a bundle has"):
        Bundle.open(packed)


def test_an_entry_that_unpacks_to_more_than_it_claims_is_refused(packed):
    with zipfile.ZipFile(packed) as whole:
        contents = {entry.filename: whole.read(entry) for entry in whole.infolist()}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in ("model.onnx", "bundle.json", "tokens.txt"):
            target.writestr(name, contents[name])
    content = bytearray(packed.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 3)
    packed.write_bytes(bytes(content))
    with pytest.raises(BundleError):
        Bundle.open(packed)


def test_folders_and_further_files_do_no_harm(packed):
    add(packed, of_kind("notes/", stat.S_IFDIR), b"")
    add(packed, of_kind("notes/read..me", stat.S_IFREG))
    assert Bundle.open(packed).metadata.name == "tiny"


def test_in_a_folder_too_nothing_oversized_is_read(bundle_path, bundle_writer, tmp_path):
    folder = bundle_writer(tmp_path / "b")
    with (folder / "tokens.txt").open("r+b") as file:
        file.truncate(archive.MAX_TEXT_BYTES + 1)
    with pytest.raises(BundleUnsafeError, match=r"tokens\.txt.*more than a bundle has"):
        Bundle.open(folder)
    assert Bundle.open(bundle_path)


@pytest.mark.parametrize("name", ["model.onnx", "..onnx", "a b.ort", "…"])
def test_plain_names(name):
    assert is_plain_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "C:a", "/a", "a\0", "a\n", "a/"])
def test_names_that_are_not_plain(name):
    assert not is_plain_name(name)
