"""Reading a `.pt2` file: the graph JSON, the tensor configurations and raw bytes, nothing else.

`torch.export.load` unpickles sample inputs and constants and evaluates size expressions and guards as Python.
This reader looks at none of them: shapes are computed anew from the inputs, sizes by `_scalars.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from deqops._errors import ModelFileError, UnsupportedOperationError
from deqops.graph._archive import Archive
from deqops.graph._functional import Assignment, Name, RawNode
from deqops.graph._json import get, parse_json, union
from deqops.graph._operations import IGNORED_ARGUMENTS, is_check, is_random
from deqops.graph._program import Program, canonical, fingerprint
from deqops.graph._scalars import scalar_name
from deqops.graph._tensors import dtype_of, read_tensors
from deqops.graph._tree import Tree, parse_treespec

_SCHEMA_MAJOR = 8
_MAX_NODES = 1_000_000


class Source:
    """What a model file says: program, tensors, trees, names, why it is not one pure map."""

    def __init__(self, archive: Archive) -> None:
        if "byteorder" in archive and archive.read("byteorder", 16).strip() != b"little":
            raise ModelFileError("model file: its tensors are not little-endian")
        document = parse_json(archive.read("models/model.json"), "models/model.json")
        major = get(get(document, "schema_version", dict), "major", int)
        if major != _SCHEMA_MAJOR:
            raise ModelFileError(f"model file: export schema {major} is unknown; export with torch 2.9 to 2.13")
        module = get(document, "graph_module", dict)
        self._graph = get(module, "graph", dict)
        self._signature = get(module, "signature", dict)
        weights = read_tensors(archive, "weights", "model_weights_config.json")
        constants = read_tensors(archive, "constants", "model_constants_config.json")
        self._tensors = weights | constants
        self.arguments, self.output_tree, self.argument_names = _trees(module)
        self.deqops = _deqops_record(archive)
        self.impure: list[str] = []
        self.program, self.constants = self._read_program()
        self.fingerprint = fingerprint(self.program, self.constants)

    def _read_program(self) -> tuple[Program, dict[str, Tensor]]:
        user, model = self._placeholders()
        numbers = {name: number for number, name in enumerate([*user, *model])}
        protected = {name: f"buffer or parameter {target}" for name, target in model.items()}
        protected |= {name: f"input {name}" for name in user}
        assignment = Assignment(numbers, protected)
        nodes = [node for entry in get(self._graph, "nodes", list) for node in _raw_node(entry)]
        if len(nodes) > _MAX_NODES:
            raise ModelFileError(f"model file: more than {_MAX_NODES} operations")
        outputs = self._outputs()
        assignment.run(nodes, outputs)
        self.impure += assignment.impure + [text for node in nodes for text in _impurities(node)]
        missing = [name for name in outputs if name not in assignment.numbers]
        if missing:
            raise ModelFileError(f"model file: output {missing[0]!r:.80} is never computed")
        order = self.arguments.children[0]
        states = sum(1 for _ in range(order.size)) if order.children else 1
        program = Program(
            state=tuple(range(states)),
            inputs=tuple(range(states, len(user))),
            constants={numbers_of: name for name, numbers_of in self._model_numbers(model, len(user))},
            instructions=tuple(assignment.instructions),
            outputs=tuple(assignment.numbers[name] for name in outputs),
        )
        reduced = canonical(program)
        kept = set(reduced.constants.values())
        return reduced, {name: tensor for name, tensor in self._tensors.items() if name in kept}

    def _model_numbers(self, model: dict[str, str], start: int) -> list[tuple[str, int]]:
        pairs = []
        for offset, target in enumerate(model.values()):
            if target not in self._tensors:
                raise ModelFileError(f"model file: tensor {target!r:.80} is missing")
            pairs.append((target, start + offset))
        return pairs

    def _placeholders(self) -> tuple[list[str], dict[str, str]]:
        """Names of the user's inputs, and of model tensors with the tensors they stand for."""
        user: list[str] = []
        model: dict[str, str] = {}
        for spec in get(self._signature, "input_specs", list):
            kind, entry = union(spec)
            if kind == "user_input":
                tag, argument = union(get(entry, "arg", dict))
                if tag != "as_tensor":
                    raise ModelFileError(f"model file: an input is no tensor ({tag}); export with tensor inputs only")
                user.append(get(argument, "name", str))
            elif kind in ("parameter", "buffer", "tensor_constant"):
                key = {"parameter": "parameter_name", "buffer": "buffer_name"}.get(kind, "tensor_constant_name")
                model[get(get(entry, "arg", dict), "name", str)] = get(entry, key, str)
            else:
                raise ModelFileError(f"model file: it needs a {kind!r:.40} input, which could hold code")
        if len(user) != self.arguments.size or len(set(user) | set(model)) != len(user) + len(model):
            raise ModelFileError("model file: its inputs do not fit its input structure")
        return user, model

    def _outputs(self) -> list[str]:
        names = []
        for spec in get(self._signature, "output_specs", list):
            kind, entry = union(spec)
            if kind == "buffer_mutation":
                self.impure.append(f"changes buffer {get(entry, 'buffer_name', str)}")
            elif kind == "user_output":
                tag, argument = union(get(entry, "arg", dict))
                if tag != "as_tensor":
                    raise ModelFileError(f"model file: an output is no tensor ({tag}); return tensors only")
                names.append(get(argument, "name", str))
            else:
                self.impure.append(f"has an output of kind {kind}")
        return names


def read_source(source: Path | bytes) -> Source:
    """Read a model file or its bytes; runs no code from it."""
    archive = Archive(source)
    try:
        return Source(archive)
    except RecursionError:
        raise ModelFileError("model file: it is nested too deeply") from None
    finally:
        archive.close()


def _trees(module: dict[str, Any]) -> tuple[Tree, Tree, list[str]]:
    """Structure of the positional arguments and of the result, and the arguments' names."""
    calls = get(module, "module_call_graph", list)
    root = next((c for c in calls if isinstance(c, dict) and c.get("fqn") == ""), None)
    signature = get(root, "signature", dict)
    whole = parse_treespec(signature.get("in_spec"))
    if len(whole.children) != 2 or whole.children[1].size or not whole.children[0].children:
        raise ModelFileError("model file: it must take the state and inputs as positional arguments")
    names = signature.get("forward_arg_names")
    usable = isinstance(names, list) and all(isinstance(name, str) for name in names)
    count = len(whole.children[0].children)
    listed = [str(name) for name in names] if usable and isinstance(names, list) else []
    padded = [*listed, *(f"input_{n}" for n in range(len(listed), count))][:count]
    return whole.children[0], parse_treespec(signature.get("out_spec")), padded


def _deqops_record(archive: Archive) -> dict[str, Any]:
    if "extra/deqops.json" not in archive:
        return {}
    record = parse_json(archive.read("extra/deqops.json", 2**20), "deqops.json")
    if get(record, "schema", int) != 1:
        raise ModelFileError("model file: its deqops.json has an unknown schema; update deqops")
    return record  # type: ignore[return-value]


def _raw_node(entry: object) -> list[RawNode]:
    target = get(entry, "target", str)
    op = _operation(target)
    if is_check(op):
        return []
    arguments = []
    for item in get(entry, "inputs", list):
        name = get(item, "name", str)
        if name not in IGNORED_ARGUMENTS:
            arguments.append((name, _argument(get(item, "arg", dict), op)))
    results, several = _results(get(entry, "outputs", list), op)
    return [RawNode(op, tuple(arguments), results, several)]


def _operation(target: str) -> str:
    scalar = scalar_name(target)
    if scalar is not None:
        return scalar
    op = target.removeprefix("torch.ops.")
    if not op.startswith("aten.") or len(op) > 120:
        raise UnsupportedOperationError(f"{target:.120}", "is no plain tensor operation")
    return {"aten.sym_size.int": "sym.size", "aten.sym_numel.default": "sym.numel"}.get(op, op)


_LISTS = {"as_ints", "as_floats", "as_bools", "as_strings"}


def _argument(argument: object, op: str) -> Any:
    tag, value = union(argument)
    if tag == "as_none":
        return None
    if tag == "as_tensor":
        return Name(get(value, "name", str))
    if tag in ("as_tensors", "as_nested_tensors") and isinstance(value, list):
        return tuple(Name(get(item, "name", str)) for item in value)
    if tag == "as_optional_tensors" and isinstance(value, list):
        return tuple(_argument(item, op) for item in value)
    if tag == "as_optional_tensor":
        return _argument(value, op)
    if tag in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return _symbol(value)
    if tag in ("as_sym_ints", "as_sym_floats") and isinstance(value, list):
        return tuple(_symbol(item) for item in value)
    if tag == "as_scalar_type":
        return dtype_of(value)
    if tag in _LISTS and isinstance(value, list):
        return tuple(_plain(item, op) for item in value)
    if tag in ("as_int", "as_float", "as_bool", "as_string"):
        return _plain(value, op) if tag != "as_float" else _float(value, op)
    if tag in ("as_device", "as_layout", "as_memory_format"):
        return None
    raise UnsupportedOperationError(op, f"takes an argument of kind {tag:.40}, which is not supported")


def _symbol(value: object) -> Any:
    tag, inner = union(value)
    if tag == "as_name" and isinstance(inner, str):
        return Name(inner)
    if tag in ("as_int", "as_bool", "as_float"):
        return inner if isinstance(inner, bool | int | float) else _float(inner, "a size")
    raise ModelFileError(f"model file: a size of kind {tag:.40} is not supported")


def _plain(value: object, op: str) -> Any:
    if isinstance(value, str) and len(value) > 1000:
        raise ModelFileError(f"model file: operation {op} has an overlong string argument")
    if isinstance(value, bool | int | float | str):
        return value
    raise ModelFileError(f"model file: operation {op} has an argument of the wrong kind")


def _float(value: object, op: str) -> float:
    """Floats are written as numbers, infinities and NaN as words."""
    words = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
    if isinstance(value, str) and value in words:
        return words[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelFileError(f"model file: operation {op} has a float argument that is no number")
    return float(value)


def _results(outputs: list[object], op: str) -> tuple[tuple[str, ...], bool]:
    names: list[str] = []
    several = len(outputs) > 1
    for output in outputs:
        tag, value = union(output)
        if tag == "as_tensor":
            names.append(get(value, "name", str))
        elif tag in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            names.append(_symbol(value).text)
        elif tag == "as_tensors" and isinstance(value, list):
            several = True
            names.extend(get(item, "name", str) for item in value)
        else:
            raise UnsupportedOperationError(op, f"returns a value of kind {tag:.40}, which is not supported")
    return tuple(names), several


def _impurities(node: RawNode) -> list[str]:
    arguments = dict(node.arguments)
    if is_random(node.op):
        return [f"random: {node.op}"]
    if "dropout" in node.op and arguments.get("train") is True and arguments.get("p") != 0.0:
        return [f"dropout in training mode: {node.op}"]
    training = (
        arguments.get("training") is True or arguments.get("train") is True or arguments.get("use_input_stats") is True
    )
    if "_norm" in node.op and training:
        return [f"batch statistics in training mode: {node.op}"]
    return []
