"""The operator graph: traced in memory, written to and read from `.pt2` files; a callable operator itself."""

from __future__ import annotations

import io
import json
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils import _pytree as pytree

from deqops._atomic import write_atomically
from deqops._errors import InputError, ModelFileError, UnsupportedOperationError
from deqops._layer import operator_of
from deqops._tree import check_batch_dims
from deqops.graph import _rules as _registered  # noqa: F401  (fills the table of lowering rules)
from deqops.graph._as_computed import is_as_computed
from deqops.graph._decomposed import decomposed
from deqops.graph._folding import folded
from deqops.graph._interpret import run
from deqops.graph._ir import ConcreteGraph
from deqops.graph._json import get
from deqops.graph._lowering import Lowering
from deqops.graph._quiet import quiet
from deqops.graph._reader import Source, read_source
from deqops.graph._tree import tree_of
from deqops.graph._try_out import tried_out

_EXPORTING = threading.RLock()
"""`torch.export` changes modes of the whole process: two threads at once leave it unusable for everyone."""


class OperatorGraph:
    """`G(state, *inputs) -> state` as read from an export; call it like any operator.

    Attributes:
        fingerprint: SHA-256 of the canonical graph and of its tensors.
        input_names: of the inputs' leaves.
        batch_dims: 1 where dimension 0 of every leaf of the state counts independent problems, else 0.
        constants: copies of the model's tensors by name: the graph keeps those that its fingerprint is of.
        impure: why the operator is not one fixed map (random numbers, dropout, changed buffers); empty if it is.
    """

    def __init__(self, source: Source, batch_dims: int) -> None:
        self._source = source
        self.fingerprint = source.fingerprint
        self.batch_dims = batch_dims
        self.impure = tuple(dict.fromkeys(source.impure))
        trees = source.arguments.children
        self._state_tree, self._input_trees = trees[0], trees[1:]
        names = source.argument_names[1:]
        self.input_names = tuple(
            n for tree, name in zip(self._input_trees, names, strict=True) for n in tree.names(name)
        )

    @property
    def constants(self) -> Mapping[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._source.constants.items()}

    def __call__(self, state: Any, *inputs: Any) -> Any:
        """The new state, computed by torch operation by operation."""
        leaves = self._leaves(state, inputs)
        try:
            images = run(self._source.program, leaves, self._source.constants)
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"operator: {first:.200}; check shapes and dtypes") from error
        order = self._state_tree.leaf_order(self._source.output_tree)
        if order is None:
            raise InputError("operator: its result has not the structure of the state")
        return self._state_tree.unflatten([images[place] for place in order])

    def concrete(self, state: Any, *inputs: Any) -> ConcreteGraph:
        """The graph at the shapes of these arguments; index inputs are taken at their values.

        Raises:
            InputError: the arguments do not fit the graph, or it changes the state's structure or shapes.
            UnsupportedOperationError: an operation is not known to deqops, by name.
        """
        leaves = self._leaves(state, inputs)
        states = self._state_tree.size
        lowering = Lowering(self._source.program)
        outputs = lowering.run(leaves[:states], leaves[states:], self.input_names, self._source.constants)
        order = self._state_tree.leaf_order(self._source.output_tree)
        if order is None:
            raise InputError("operator: its result has not the structure of the state; return the same structure")
        graph = _without_dead_values(lowering, [outputs[place] for place in order], self)
        for value, leaf in zip(graph.outputs, leaves[:states], strict=True):
            if graph.shape(value) != tuple(leaf.shape):
                got, expected = graph.shape(value), tuple(leaf.shape)
                raise InputError(f"operator: it maps a state of shape {expected} to shape {got}; return {expected}")
        return graph

    def arranged(self, state: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[Any, ...]:
        """The arguments of a call, `(state, *inputs)`, from their leaves in order."""
        remaining = iter(inputs)
        trees = [tree.unflatten([next(remaining) for _ in range(tree.size)]) for tree in self._input_trees]
        return (self._state_tree.unflatten(state), *trees)

    def _leaves(self, state: Any, inputs: Sequence[Any]) -> list[Tensor]:
        if len(inputs) != len(self._input_trees):
            raise InputError(f"inputs: the operator takes {len(self._input_trees)}, got {len(inputs)}")
        leaves = self._state_tree.flatten(state, "state")
        names = self._source.argument_names[1:]
        for tree, value, name in zip(self._input_trees, inputs, names, strict=True):
            leaves += tree.flatten(value, name)
        labels = [*self._state_tree.names("state"), *self.input_names]
        for label, leaf in zip(labels, leaves, strict=True):
            if not isinstance(leaf, Tensor):
                raise InputError(f"{label}: a tensor is needed, got {type(leaf).__name__}")
        self._source.expected.check(labels, leaves)
        return leaves


def _without_dead_values(lowering: Lowering, outputs: list[int], graph: OperatorGraph) -> ConcreteGraph:
    live, nodes = set(outputs), []
    for node in reversed(lowering.nodes):
        if node.output in live:
            live.update(node.operands)
            nodes.append(node)
    kept = {v: leaf for v, leaf in lowering.leaves.items() if v in live or leaf.kind in ("state", "input")}
    return ConcreteGraph(
        kept, tuple(reversed(nodes)), tuple(outputs), graph.batch_dims, graph.fingerprint, graph.input_names
    )


# --------------------------------------------------------------------------------------------------- reading


def read_model(path: str | Path, *, batch_dims: int | None = None) -> OperatorGraph:
    """Read a `.pt2` file; no code in it runs.

    Args:
        path: written by `deqops.export`, or by `torch.export.save`.
        batch_dims: 1 or 0; None for what the file says, else 1.

    Raises:
        FileNotFoundError: no such file.
        ModelFileError: damaged, foreign, too large or hostile.
        UnsupportedOperationError: an operation that cannot be represented, by name.
    """
    return _from_source(read_source(Path(path)), batch_dims)


def _from_source(source: Source, batch_dims: int | None) -> OperatorGraph:
    recorded = get(source.deqops, "batch_dims", int) if source.deqops else None
    chosen = batch_dims if batch_dims is not None else recorded if recorded is not None else 1
    if chosen not in (0, 1):
        raise ModelFileError(f"model file: batch_dims is {chosen!r}; it must be 0 or 1")
    return OperatorGraph(source, chosen)


# --------------------------------------------------------------------------------------------------- tracing


class _Callable(nn.Module):
    """A plain function as a module; modules among its closure's values become submodules."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        modules = _closed_over(function)
        for number, module in enumerate(modules):
            setattr(self, f"closed_over_{number}", module)
        self.training = any(module.training for module in modules)  # not train(): that would change the modules

    def forward(self, state: Any, *inputs: Any) -> Any:
        return self.function(state, *inputs)


def _closed_over(function: Any) -> list[nn.Module]:
    """Modules that a function closes over or refers to by a global name."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if _filled(cell)]
    code, scope = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    named = [scope[name] for name in getattr(code, "co_names", ()) if name in scope]
    owner = getattr(function, "__self__", None)
    return [value for value in (*cells, *named, owner) if isinstance(value, nn.Module)]


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def trace(G: Any, state: Any, *inputs: Any, batch_dims: int | None = None) -> OperatorGraph:
    """The operator graph of `G(state, *inputs)`.

    Args:
        G: module, callable, `torch.export.ExportedProgram`, `OperatorGraph` (returned as it is), or an
            `EquilibriumLayer`, for its operator.
        state: example state, which fixes structure and dtype.
        inputs: example inputs.
        batch_dims: 1 or 0; None for an `OperatorGraph`'s own, else 1.

    Raises:
        InputError: G is none of these, fails on the example, or is an `OperatorGraph` of other `batch_dims`.
        UnsupportedOperationError: it cannot be exported (control flow that depends on data), its export gives
            another result than G, or an operation cannot be represented.
    """
    if batch_dims is not None:
        check_batch_dims(batch_dims)
    if not isinstance(G, OperatorGraph):
        _, source = _exported(G, state, inputs, 1 if batch_dims is None else batch_dims)
        return _from_source(source, batch_dims)
    if batch_dims is not None and batch_dims != G.batch_dims:
        raise InputError(
            f"batch_dims: the operator graph has {G.batch_dims}, got {batch_dims}; leave it out, or read the graph's "
            f"file anew with batch_dims={batch_dims}"
        )
    return G


def export(path: str | Path, G: Any, state: Any, *inputs: Any, batch_dims: int = 1) -> None:
    """Write `G(state, *inputs)` as a `.pt2` file that `deqops.load` and `torch.export.load` read; atomically.

    Raises:
        InputError, UnsupportedOperationError: as `trace`.
        OSError: the file cannot be written.
    """
    if isinstance(G, OperatorGraph):
        raise InputError("G: this operator was read from a file; copy that file")
    check_batch_dims(batch_dims)
    content, _ = _exported(G, state, inputs, batch_dims)
    write_atomically(Path(path), content)


def _exported(G: Any, state: Any, inputs: tuple[Any, ...], batch_dims: int) -> tuple[bytes, Source]:
    """A model file, and what is read from it."""
    for name, value in (("state", state), *((f"inputs[{n}]", value) for n, value in enumerate(inputs))):
        tree_of(value, name)  # a namedtuple, say, has no place in a model file
    record: dict[str, Any] = {"schema": 1, "batch_dims": batch_dims}
    with _EXPORTING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(G, torch.export.ExportedProgram):
            return _read_back(G, record)
        module = _module_of(G)
        example = pytree.tree_map(lambda t: t.detach().clone() if isinstance(t, Tensor) else t, (state, *inputs))
        impure = _tried_out(module, example)
        if impure:
            record["impure"] = impure
        with _fixed_weights(module):
            program = _exported_program(module, example)
        content, source = _read_back(program, record)
        if not source.impure and not is_as_computed(source, module, example):
            raise UnsupportedOperationError("torch.export", _DIFFERS)
    return content, source


_DIFFERS = (
    "makes a program of G that gives another result than G itself; G must not ask whether it is exported or compiled, "
    "nor change torch's operations by modes of its own"
)


def _read_back(program: torch.export.ExportedProgram, record: dict[str, Any]) -> tuple[bytes, Source]:
    """A program, in operations that are known here, as a model file, and what is read from it."""
    buffer, program = io.BytesIO(), decomposed(program)
    extra = {"deqops.json": json.dumps(record, sort_keys=True)}
    try:
        with _materialised(program):
            torch.export.save(program, buffer, extra_files=extra)
    except (NotImplementedError, RuntimeError) as error:  # of a structure or a layout that torch cannot write
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"G: {first:.200}; use tensors, or tuples, lists or dicts of tensors") from error
    content = buffer.getvalue()
    return content, read_source(content)


@contextmanager
def _materialised(program: torch.export.ExportedProgram) -> Iterator[None]:
    """Signs that tensors only note, as `conj()` and its `imag` do, are computed: a file has no place for them."""
    tables: list[dict[str, Any]] = [program.state_dict, program.constants]
    noted = [
        (table, name, tensor)
        for table in tables
        for name, tensor in table.items()
        if isinstance(tensor, Tensor) and (tensor.is_conj() or tensor.is_neg())
    ]
    for table, name, tensor in noted:
        plain = tensor.detach().resolve_conj().resolve_neg()
        table[name] = nn.Parameter(plain, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else plain
    try:
        yield
    finally:
        for table, name, tensor in noted:
            table[name] = tensor


def _module_of(G: Any) -> nn.Module:
    operator = operator_of(G)
    if not callable(operator):
        raise InputError(f"G: a module or callable is needed, got {type(operator).__name__}")
    return operator if isinstance(operator, nn.Module) else _Callable(operator)


def _tried_out(module: nn.Module, example: tuple[Any, ...]) -> list[str]:
    """Why the module is not one fixed map as far as that is not seen from its export."""
    try:
        return tried_out(module, example)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"G: it fails on the example state and inputs: {first:.200}") from error


def _exported_program(module: nn.Module, example: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """The export; where it fails, with the numbers that the module reads from its own constants known."""
    try:
        return _quietly_exported(module, example)
    except Exception as error:
        for other in folded(module) if _reads_data(error) else []:
            try:
                return _quietly_exported(other, example)
            except Exception:
                continue  # the first failure is the one to tell
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UnsupportedOperationError("torch.export", f"cannot export G: {first:.200}") from error


def _quietly_exported(module: nn.Module, example: tuple[Any, ...]) -> torch.export.ExportedProgram:
    with quiet():
        return torch.export.export(module, example, strict=False)


def _reads_data(error: Exception) -> bool:
    return "data-dependent" in str(error)


@contextmanager
def _fixed_weights(module: nn.Module) -> Iterator[None]:
    """Weights whose parametrisations say that they are functions of stored tensors are taken as they are now."""
    with parametrize.cached():
        for part in _reached(module):
            for name, maps in getattr(part, "parametrizations", {}).items():
                if all(map(_is_function_of_weights, maps)):
                    with torch.no_grad():
                        getattr(part, name)
        yield


def _is_function_of_weights(one: nn.Module) -> bool:
    """Whether a parametrisation says so, or is torch's orthogonal one, whose factorisations no graph spells out."""
    return isinstance(one, parametrizations._Orthogonal) or bool(getattr(one, "is_function_of_weights", False))


def _reached(module: nn.Module) -> list[nn.Module]:
    """The module's parts, and those of the functions that they hold."""
    found: dict[int, nn.Module] = {}
    waiting = [module]
    while waiting:
        for part in waiting.pop().modules():
            if id(part) not in found:
                found[id(part)] = part
                waiting += [inner for value in vars(part).values() if callable(value) for inner in _closed_over(value)]
    return list(found.values())
