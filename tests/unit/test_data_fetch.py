"""Missing files: fetched whole and checked, or one error that names the folder and the way out."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import tarfile
from email.message import Message
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

from regrow.core.errors import RegrowError
from regrow.train.data import cifar, fetch, load


class Response(io.BytesIO):
    headers = Message()


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> Response:
        asked.append(url)
        return Response(content)

    monkeypatch.setattr(fetch, "urlopen", urlopen)
    return asked


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(url: str, timeout: float) -> Response:
        raise URLError("no route")

    monkeypatch.setattr(fetch, "urlopen", urlopen)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST/raw"), ("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")]
)
def test_missing_data_names_the_folder_and_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str
) -> None:
    monkeypatch.setenv("REGROW_DATA", str(tmp_path))
    with pytest.raises(RegrowError) as caught:
        load(name)
    message = str(caught.value)
    for part in (str(tmp_path / folder), "$REGROW_DATA", "data: digits", "no route"):
        assert part in message


def test_a_download_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, b"content")
    fetch.download("http://host/file", hashlib.md5(b"content").hexdigest(), tmp_path / "a" / "file")
    assert asked == ["http://host/file"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    assert (tmp_path / "a" / "file").read_bytes() == b"content"


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gzip.compress(b"tampered"))
    with pytest.raises(RegrowError, match="is not the published file: MD5"):
        load("fashion_mnist", root=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_archive_is_unpacked_by_name_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "fine_labels": [0, 1, 2, 3]}, protocol=2)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("cifar-100-python/train", "cifar-100-python/test", "../outside"):
            member = tarfile.TarInfo(name)
            member.size = len(batch)
            tar.addfile(member, io.BytesIO(batch))
    serve(monkeypatch, packed.getvalue())
    digest = hashlib.md5(packed.getvalue()).hexdigest()
    folder = tmp_path / "root" / "cifar-100-python"
    cifar._ensure(folder, ["train", "test"], "http://host/cifar-100-python.tar.gz", digest)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["test", "train"]
    assert load("cifar100", root=tmp_path / "root", validation=0.0).steps(2) == 2


def test_the_root_is_the_environment_then_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_DATA", str(tmp_path / "data"))
    assert fetch.default_root() == tmp_path / "data"
    monkeypatch.delenv("REGROW_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.default_root() == tmp_path / "regrow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.default_root() == Path.home() / ".cache" / "regrow"
