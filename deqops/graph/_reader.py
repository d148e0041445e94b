"""Reading a `.pt2` file: the graph JSON, the tensor configurations and raw bytes, nothing else.

`torch.export.load` unpickles sample inputs and constants and evaluates size expressions and guards as Python.
This reader looks at none of them: shapes are computed anew from the inputs, sizes by `_scalars.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from deqops._errors import ModelFileError
from deqops.graph._archive import Archive
from deqops.graph._expected import Expectations
from deqops.graph._functional import Assignment
from deqops.graph._json import get, parse_json, union
from deqops.graph._made import in_its_dtype
from deqops.graph._nodes import impurities, raw_nodes
from deqops.graph._program import Program, canonical, fingerprint
from deqops.graph._tensors import read_tensors
from deqops.graph._tree import Tree, parse_treespec

_SCHEMA_MAJOR = 8
_MAX_NODES = 1_000_000
_ARCHIVE = {"archive_format": b"pt2", "archive_version": b"0"}


class Source:
    """What a model file says: program, tensors, trees, names, why it is not one pure map."""

    def __init__(self, archive: Archive) -> None:
        for name, expected in _ARCHIVE.items():
            if name in archive and archive.read(name, 16).strip() != expected:
                raise ModelFileError(f"model file: its {name} is unknown; export with torch 2.9 to 2.13")
        if "byteorder" in archive and archive.read("byteorder", 16).strip() != b"little":
            raise ModelFileError("model file: its tensors are not little-endian")
        document = parse_json(archive.read("models/model.json"), "models/model.json")
        major = get(get(document, "schema_version", dict), "major", int)
        if major != _SCHEMA_MAJOR:
            raise ModelFileError(f"model file: export schema {major} is unknown; export with torch 2.9 to 2.13")
        module = get(document, "graph_module", dict)
        self._document, self._graph = document, get(module, "graph", dict)
        self._signature = get(module, "signature", dict)
        weights = read_tensors(archive, "weights", "model_weights_config.json")
        constants = read_tensors(archive, "constants", "model_constants_config.json")
        if weights.keys() & constants.keys():
            raise ModelFileError("model file: a tensor is both a weight and a constant")
        self._tensors = weights | constants
        self.arguments, self.output_tree, self.argument_names = _trees(module)
        self.deqops = _deqops_record(archive)
        self.impure = _recorded_impurities(self.deqops)
        self.program, self.constants = self._read_program()
        self.fingerprint = fingerprint(self.program, self.constants)

    def _read_program(self) -> tuple[Program, dict[str, Tensor]]:
        user, model = self._placeholders()
        self.expected = Expectations(self._document, self._graph, user)
        numbers = {name: number for number, name in enumerate([*user, *model])}
        protected = {name: f"buffer or parameter {target}" for name, target in model.items()}
        protected |= {name: f"input {name}" for name in user}
        assignment = Assignment(numbers, protected)
        values = self._graph.get("tensor_values")
        entries = get(self._graph, "nodes", list)
        nodes = [in_its_dtype(node, values) for entry in entries for node in raw_nodes(entry)]
        if len(nodes) > _MAX_NODES:
            raise ModelFileError(f"model file: more than {_MAX_NODES} operations")
        outputs = self._outputs()
        assignment.run(nodes, outputs)
        self.impure += assignment.impure + [text for node in nodes for text in impurities(node)]
        missing = [name for name in outputs if name not in assignment.numbers]
        if missing:
            raise ModelFileError(f"model file: output {missing[0]!r:.80} is never computed")
        states = self.arguments.children[0].size
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
            elif kind == "constant_input":
                raise ModelFileError(
                    "model file: one of its inputs is a number or None; export with tensor inputs only"
                )
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
    if not whole.children[0].children[0].size:
        raise ModelFileError("model file: its state holds no tensor")
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


def _recorded_impurities(record: dict[str, Any]) -> list[str]:
    """Why the operator was found not to be one fixed map when it was exported, where its graph does not show it."""
    listed = get(record, "impure", list) if "impure" in record else []
    if not all(isinstance(reason, str) for reason in listed):
        raise ModelFileError("model file: its deqops.json is damaged")
    return [f"{reason:.200}" for reason in listed]
