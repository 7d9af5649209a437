"""Fixtures of the tests of checkpoints: a server, and a cache of its own."""

import pytest
from servers import cache_in, serving


@pytest.fixture
def server(monkeypatch):
    """A server of this machine that misbehaves as its addresses say."""
    with serving(monkeypatch) as server:
        yield server


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that downloads of this test are kept in."""
    return cache_in(tmp_path, monkeypatch)
