"""Fetching a weights file from a real server, whole or not at all."""

import hashlib
import http.server
import inspect
import threading

import keras
import pytest
from keras.src.applications import densenet, efficientnet_v2, mobilenet_v3, resnet, xception

from kd_keras.models import _weights
from kd_keras.models.backbones import BACKBONES

CONTENT = b"weights " * 1000


class Published(http.server.BaseHTTPRequestHandler):
    """`/whole.h5` is there, `/torn.h5` breaks off in the middle, the rest is missing."""

    def do_GET(self):
        if self.path not in ("/whole.h5", "/torn.h5"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole.h5" else CONTENT[:100])

    def log_message(self, *args):
        """Keep the test's output quiet."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of the server; the Keras cache is an empty folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with http.server.HTTPServer(("127.0.0.1", 0), Published) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_is_fetched_once_and_then_found(server, tmp_path):
    path = _weights.imagenet_file("net", f"{server}/whole.h5")
    assert path == tmp_path / "models" / "whole.h5"
    assert path.read_bytes() == CONTENT
    assert _weights.imagenet_file("net", "http://127.0.0.1:9/whole.h5") == path


@pytest.mark.parametrize(
    ("file", "reason"), [("torn.h5", "100 of 8000 bytes arrived"), ("none.h5", "404")]
)
def test_what_does_not_arrive_whole_leaves_nothing(server, tmp_path, file, reason):
    with pytest.raises(ConnectionError, match=reason) as caught:
        _weights.imagenet_file("net", f"{server}/{file}")
    assert str(tmp_path / "models" / file) in str(caught.value)
    assert not list(tmp_path.rglob("*.h5"))


def test_published_digests_are_those_that_keras_checks():
    """As its own code writes them down: of each family's dictionary, or beside the file's name."""
    known = ""
    for module in (resnet, mobilenet_v3, efficientnet_v2, densenet, xception):
        known += inspect.getsource(module)
    for name, digest in _weights.PUBLISHED.items():
        assert known.count(digest) == 1, name
    fetched = [row.url for row in BACKBONES.values() if row.find is _weights.imagenet_file]
    fixed = {url.rsplit("/", 1)[1] for url in fetched if "{" not in url}
    assert fixed < set(_weights.PUBLISHED)


def test_other_bytes_under_a_published_name_are_refused(server, tmp_path, monkeypatch):
    """Damaged weights in HDF5 are mostly read, as other weights."""
    monkeypatch.setitem(_weights.PUBLISHED, "whole.h5", "0" * 32)
    with pytest.raises(ConnectionError, match="bytes received are not those that Keras publishes"):
        _weights.imagenet_file("net", f"{server}/whole.h5")
    assert not list(tmp_path.rglob("*.h5"))
    (tmp_path / "whole.h5").write_bytes(CONTENT)
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"whole\.h5 has the name of a weights file that Keras"):
        _weights.load(net, tmp_path / "whole.h5", model="net")
    right = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(_weights.PUBLISHED, "whole.h5", right)
    assert _weights.imagenet_file("net", f"{server}/whole.h5").read_bytes() == CONTENT
