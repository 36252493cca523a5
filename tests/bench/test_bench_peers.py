"""Peers in environments of their own agree on tiny networks; skipped where `make bench` has not installed them."""

import pytest

from bench.networks import layer, mlp, unet
from bench.peers import compare
from bench.peers.install import FOLDER

NETWORKS = {"unet": lambda: unet(16, 32), "mlp": lambda: mlp(2), "conv": lambda: layer(4, 6, 7)}


def present(peer):
    if not (FOLDER / peer.environment / ".installed").is_file():
        pytest.skip(f"{peer.environment} is not installed; run `make bench`")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("peer", [compare.REFERENCE, compare.BUILTIN, compare.XNNPACK], ids=lambda p: p.kind)
def test_litert_agrees_up_to_rounding(peer, name, tmp_path):
    present(peer)
    row = compare.ask(peer, NETWORKS[name](), 0.0, tmp_path)
    assert "reason" not in row, row["reason"]
    assert row["cpu_ms"] > 0
    # its requantizer may be off by one in every layer
    assert row["distance"] <= (4 if name == "unet" else 1)


@pytest.mark.parametrize(("peer", "kernel"), [(compare.TOSA, 3), (compare.DA4ML, 1)], ids=["tosa", "da4ml"])
def test_accumulators_are_exact(peer, kernel, tmp_path):
    present(peer)
    row = compare.ask(peer, layer(4, 6, 7, kernel), 0.0, tmp_path)
    assert "reason" not in row, row["reason"]
    assert (row["differs"], row["distance"]) == (0, 0)


def test_a_peer_that_fails_is_a_row(tmp_path):
    present(compare.DA4ML)
    row = compare.ask(compare.DA4ML, mlp(1), 0.0, tmp_path)  # a driver for 1x1 convolutions only
    assert row["reason"]
    assert "cpu_ms" not in row


def test_a_peer_that_cannot_be_installed_is_a_row(tmp_path, monkeypatch):
    def without_network(root, with_pip):
        python = root / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text("#!/bin/sh\necho 'WARNING: retrying' >&2; echo 'ERROR: nothing found' >&2; exit 1\n")
        python.chmod(0o755)

    monkeypatch.setattr("bench.peers.install.FOLDER", tmp_path)
    monkeypatch.setattr("bench.peers.install.venv.create", without_network)
    row = compare.ask(compare.TOSA, mlp(1), 0.0, tmp_path)
    assert row["reason"] == "not installed: ERROR: nothing found"
    assert not (tmp_path / "tosa" / ".installed").exists()
