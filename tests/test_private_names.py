"""The private names of Keras that the package uses: which, where, and that they work.

`make test` runs this on Keras's nightly release too: what fails there names what is
gone before a release without it is out.
"""

from __future__ import annotations

import ast
from pathlib import Path

import keras
import pytest

PACKAGE = Path(__file__).parents[1] / "keras_lap"
READERS = ("blocks/tracing.py", "blocks/reading.py")
# What Keras has no public name for beside the reading of networks: what the tuner
# compiles a model with, and the sum of losses as its strategies want it.
OTHERS = {
    "tuning/hypermodel.py": {"_compile_config"},
    "training/trainer.py": {"_aggregate_additional_loss"},
    # Of `Trainer`, not of Keras: what is put around its methods.
    "training/wrapping.py": {"_step", "_steps", "_end"},
}
# Of named tuples: public in spite of their underscore.
PUBLIC = {"_asdict", "_fields", "_replace"}


def _node():
    """A node of Keras, and the layer and the tensors that it is between."""
    layer, symbol = keras.layers.Dense(2), keras.Input((3,))
    result = layer(symbol)
    history = result._keras_history
    return history.operation._inbound_nodes[history.node_index], layer, symbol, result


def has_keras_history():
    _, layer, _, result = _node()
    return result._keras_history.operation is layer


def has_inbound_nodes():
    _, layer, _, _ = _node()
    return isinstance(layer._inbound_nodes, list) and len(layer._inbound_nodes) == 1


def has_outbound_nodes():
    _, layer, _, _ = _node()
    return isinstance(layer._outbound_nodes, list)


def has_tensors_of_a_node():
    node, _, symbol, result = _node()
    return node.input_tensors == [symbol] and node.outputs == [result]


def has_arguments_of_a_node():
    node, _, symbol, _ = _node()
    filled = node.arguments.fill_in({id(symbol): 5})
    plain = node.arguments.args, node.arguments.kwargs
    return filled == ((5,), {}) and plain == ((symbol,), {})


def has_flatten_layers():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    outer = keras.Sequential([keras.Input((3,)), inner])
    direct = outer._flatten_layers(include_self=False, recursive=False)
    below = outer._flatten_layers(include_self=False)
    return inner in direct and inner.layers[-1] in below


def has_remat_mode():
    with keras.RematScope(mode="full"):
        inside = keras.layers.Dense(2)
    return inside._remat_mode and keras.layers.Dense(2)._remat_mode is None


def has_keras_mask():
    tokens = keras.Input((3,), dtype="int32")
    result = keras.layers.Embedding(5, 2, mask_zero=True)(tokens)
    return result._keras_mask.shape == (None, 3)


def has_call_context_args():
    """An operation with these arguments is handed what a layer is handed."""

    class Layer(keras.layers.Layer):
        def call(self, x, training=None):
            return x * (2.0 if training else 1.0)

    class Other(keras.Operation):
        _call_context_args = Layer()._call_context_args
        call = Layer.call

        def compute_output_spec(self, x, training=None):
            return keras.KerasTensor(x.shape)

    inputs, ones = keras.Input((3,)), keras.ops.ones((1, 3))
    models = [
        keras.Model(inputs, kind()(inputs, training=False)) for kind in (Layer, Other)
    ]
    first, second = (float(model(ones, training=True)[0, 0]) for model in models)
    return first == second


def has_call_on_the_instance():
    layer = keras.layers.Dense(2)
    vars(layer)["call"] = lambda x: "seen"
    return keras.layers.Layer.__call__(layer, keras.ops.ones((1, 3))) == "seen"


def has_output_spec_on_the_instance():
    layer = keras.layers.Dense(2)
    vars(layer)["compute_output_spec"] = lambda x: keras.KerasTensor((None, 7))
    return layer(keras.Input((3,))).shape == (None, 7)


def has_add_loss_on_the_instance():
    class Losing(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.sum(x))
            return x

    layer, losses = Losing(), []
    vars(layer)["add_loss"] = losses.append
    layer(keras.ops.ones((1, 3)))
    return len(losses) == 1 and layer.losses == []


def has_classes_that_can_be_exchanged():
    layer = keras.layers.Dense(2)
    other = type("Other", (keras.layers.Dense,), {"__call__": lambda self, x: None})
    object.__setattr__(layer, "__class__", other)
    return layer(keras.Input((3,))) is None


def has_folders_of_its_own_classes():
    model = keras.Model(x := keras.Input((3,)), x + 1.0)
    modules = [type(each).call.__module__ for each in (keras.layers.Dense(2), model)]
    split = [module.split(".") for module in modules]
    firsts = {package for package, *_ in split}
    return firsts == {"keras"} and "layers" in split[0] and "models" in split[1]


def has_names_of_its_functions():
    symbol, other = keras.Input((3, 3)), keras.Input((3, 3))
    for function, name in ((keras.ops.add, "Add"), (keras.ops.matmul, "Matmul")):
        operation = function(symbol, other)._keras_history.operation
        if type(operation).__name__ != name:
            return False
        if not type(operation).__module__.startswith("keras."):
            return False
    return True


def has_compile_config():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    return model._compile_config.config["loss"] == "mse"


def has_aggregate_additional_loss():
    return callable(keras.Model._aggregate_additional_loss)


@pytest.mark.parametrize(
    "check",
    [value for name, value in sorted(globals().items()) if name.startswith("has_")],
    ids=lambda check: check.__name__.removeprefix("has_"),
)
def test_keras_still_has(check):
    name = check.__name__.removeprefix("has_")
    message = (
        f"Keras {keras.__version__} has changed {name.replace('_', ' ')}: see "
        f"{' and '.join(READERS)}, or {', '.join(OTHERS)}"
    )
    try:
        holds = check()
    except Exception as error:
        raise AssertionError(message) from error
    assert holds, message


def private_names(file: Path) -> set[str]:
    """Attributes with an underscore in a file, but those that its classes set."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    names = {node.attr for node in attributes if node.attr.startswith("_")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            names |= {
                each.value
                for each in node.args[1:2]
                if isinstance(each, ast.Constant) and str(each.value).startswith("_")
            }
    return {n for n in names if not n.startswith("__")} - own - PUBLIC


def test_private_names_of_keras_stand_in_the_files_that_read_networks():
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE).as_posix()
        text = file.read_text(encoding="utf-8")
        assert "keras.src" not in text or place in READERS, place
        names = private_names(file) - OTHERS.get(place, set())
        if names and place not in READERS:
            found[place] = names
    assert found == {}
