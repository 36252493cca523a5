"""What may be taken is known before it is taken: small files that ask for much end in one line."""

import os
import zipfile

import numpy as np
import pytest
from frontend.build import Net
from onnx import TensorProto, helper, save

import intsim
from intsim import budget
from intsim.errors import IntsimError
from intsim.inputs import arrays_of


@pytest.fixture(autouse=True)
def default(monkeypatch):
    monkeypatch.delenv(budget.VARIABLE, raising=False)
    yield
    budget.set_memory(None)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8G", 8 << 30),
        ("512m", 512 << 20),
        ("1.5GiB", 3 << 29),
        (" 2T ", 2 << 40),
        ("1048576", 1 << 20),
        ("64kB", None),
    ],
)
def test_numbers_of_bytes(text, count):
    if count is None:
        with pytest.raises(IntsimError, match="one megabyte or more"):
            budget.parsed(text, "memory")
    else:
        assert budget.parsed(text, "memory") == count


@pytest.mark.parametrize("text", ["", "G", "8 giga", "-1G", "1e9", "8GG", "nan", "\u0664G", "9" * 400])
def test_what_is_no_number_of_bytes(text):
    with pytest.raises(IntsimError, match=r"^INTSIM_MEMORY .*such as 512M or 8G$"):
        budget.parsed(text, "INTSIM_MEMORY")


def test_where_the_budget_comes_from(monkeypatch):
    assert budget.memory() == budget.usable_memory()
    monkeypatch.setenv(budget.VARIABLE, "3G")
    assert budget.memory() == 3 << 30
    budget.set_memory("2G")
    assert budget.memory() == 2 << 30


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1 << 20, "1 MiB"), (763 << 20, "763 MiB"), (6 << 40, "6 TiB")]
)
def test_numbers_for_people(count, text):
    assert budget.shown(count) == text


def test_an_account_takes_nothing_that_it_refuses():
    budget.set_memory("8M")
    account = budget.Account(part=2)
    account.take(3 << 20, "it takes")
    with pytest.raises(IntsimError, match=r"^it takes 2 MiB, and all until here 5 MiB, more than the 4 MiB"):
        account.take(2 << 20, "it takes")
    account.take(1 << 20, "it takes")


def constant_of_shape(net: Net, rows: int, columns: int) -> str:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])
    return net.node("ConstantOfShape", np.array([rows, columns]), value=value)


def doubled(net: Net, rows: int, columns: int) -> str:
    """A constant of one row that is put beside itself until there are enough."""
    name = constant_of_shape(net, rows, 1)
    for _ in range(columns.bit_length() - 1):
        name = net.node("Concat", name, name, axis=1)
    return name


def expanded(net: Net, rows: int, columns: int) -> str:
    return net.node("Expand", np.full((1, 1), 0.5, np.float32), np.array([rows, columns]))


def tiled(net: Net, rows: int, columns: int) -> str:
    return net.node("Tile", np.full((1, 1), 0.5, np.float32), np.array([rows, columns]))


def broadcast(net: Net, rows: int, columns: int) -> str:
    return net.node("Add", np.full((rows, 1), 0.25, np.float32), np.full((1, columns), 0.25, np.float32))


def of_shape(make, columns):
    net = Net(20)
    x = net.quant(net.input(1, 64), 0.5, 0, 4)
    y = net.node("MatMul", x, net.quant(make(net, 64, columns), 0.5, 0, 4))
    return net.model(net.quant(y, 1, 0, 8))


@pytest.mark.parametrize("make", [constant_of_shape, doubled, expanded, tiled, broadcast])
def test_constants_that_nodes_make(make):
    """64 x 16 384 numbers of eight bytes are eight megabytes, of which a 64th of the budget is allowed."""
    budget.set_memory("500M")
    with pytest.raises(IntsimError, match=r"node .*: it makes constants of .*--memory allows more$"):
        intsim.load(of_shape(make, 16384))
    assert intsim.load(of_shape(make, 256)).graph.nodes
    budget.set_memory("2G")
    assert intsim.load(of_shape(make, 16384)).graph.nodes


def test_constants_of_the_file(tmp_path):
    net = Net(20)
    x = net.quant(net.input(1, 1024), 0.5, 0, 4)
    w = net.quant(np.full((1024, 1024), 0.5, np.float32), 0.5, 0, 4)
    model = net.model(net.quant(net.node("MatMul", x, w), 1, 0, 8))
    save(model, tmp_path / "m.onnx")
    budget.set_memory("3M")
    with pytest.raises(IntsimError, match=r"m\.onnx: takes 4 MiB, more than the 3 MiB; --memory allows more"):
        intsim.load(tmp_path / "m.onnx")
    with pytest.raises(IntsimError, match=r"initializer .*: takes 4 MiB"):
        intsim.load(model)
    budget.set_memory("5M")
    with pytest.raises(IntsimError, match="its constants take 8 MiB"):
        intsim.load(model)


def test_tensors_of_a_run():
    """A tensor may be larger than its constants: an outer sum."""
    net = Net(20)
    x = net.quant(net.input(1024, 1), 0.5, 0, 4)
    y = net.node("Add", x, net.node("Reshape", x, np.array([1, 1024])))
    model = net.model(net.quant(y, 1, 0, 8))
    budget.set_memory("4M")
    with pytest.raises(IntsimError, match="its tensors take, as int64, 8"):
        intsim.load(model)
    budget.set_memory("1G")
    loaded = intsim.load(model)
    budget.set_memory("1M")
    with pytest.raises(IntsimError, match="a run takes"):
        loaded.run(np.zeros((1024, 1), np.float32))


def test_concatenations_of_a_tensor_with_itself_cost_no_scale_a_channel():
    net = Net(20)
    y = net.quant(net.input(1, 18), 0.5, 0, 4)
    for _ in range(18):
        y = net.node("Concat", y, y, axis=1)
    graph = intsim.load(net.model(y)).graph
    assert {t.scale.size for t in graph.tensors.values()} == {1}


def test_files_without_an_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(IntsimError, match=r"is a pipe or a device; give a file$"):
            intsim.load(path)
        with pytest.raises(IntsimError, match=r"is a pipe or a device; give a file$"):
            arrays_of(tmp_path / path)
    with pytest.raises(IntsimError, match="can't be read: No such file"):
        budget.contents(tmp_path / "none")


def packed(path, shape, dtype, data: bytes):
    """An .npz with one member whose head says what it likes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        )
        member.write(data)


def test_what_unpacks_to_more_than_may_be_taken(tmp_path):
    packed(tmp_path / "bomb.npz", (4 << 20,), "u1", bytes(4 << 20))
    assert (tmp_path / "bomb.npz").stat().st_size < 10_000
    assert arrays_of(tmp_path / "bomb.npz")["x"].shape == (4 << 20,)
    budget.set_memory("3M")
    with pytest.raises(IntsimError, match=r"bomb\.npz: its arrays up to x\.npy take, unpacked, 4 MiB"):
        arrays_of(tmp_path / "bomb.npz")


@pytest.mark.parametrize("shape", [(1 << 40,), (9,), (7,), (-8,), (2, 2)])
def test_heads_that_lie(tmp_path, shape):
    packed(tmp_path / "x.npz", shape, "u1", bytes(8))
    with pytest.raises(IntsimError, match=r"not a readable .npy or .npz file: it says that it holds"):
        arrays_of(tmp_path / "x.npz")
    with open(tmp_path / "x.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(bytes(8))
    with pytest.raises(IntsimError, match=r"not a readable .npy or .npz file: it says that it holds"):
        arrays_of(tmp_path / "x.npy")


def test_arrays_are_as_they_were(tmp_path):
    made = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.arange(6).reshape(2, 3)), "c": np.array(7)}
    np.savez(tmp_path / "x.npz", **made)
    for name, array in arrays_of(tmp_path / "x.npz").items():
        np.testing.assert_array_equal(array, made[name])
    np.save(tmp_path / "b.npy", made["b"])
    np.testing.assert_array_equal(arrays_of(tmp_path / "b.npy")[""], made["b"])
    np.save(tmp_path / "o.npy", np.array([None]), allow_pickle=True)
    with pytest.raises(IntsimError, match="it holds Python objects"):
        arrays_of(tmp_path / "o.npy")
