"""The exceptions deqops raises; each message names the argument, what arrived and what to do."""


class DeqopsError(Exception):
    """Base class of every error that deqops raises on purpose."""


class InputError(DeqopsError, ValueError):
    """An argument has the wrong shape, dtype, structure or value."""


class MissingDataError(InputError):
    """The files of a data set are not where they were looked for."""


class ModelFileError(DeqopsError):
    """A model, tensor or certificate file is damaged, foreign, too large or hostile."""


class UnsupportedOperationError(DeqopsError):
    """An operation of the operator graph is not known to the part of deqops that met it."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(f"operation {operation}: {why}")
        self.operation = operation
        self.why = why

    def __reduce__(self) -> tuple[type["UnsupportedOperationError"], tuple[str, str]]:
        """What it was made of: by default an exception is made anew from its message."""
        return type(self), (self.operation, self.why)
