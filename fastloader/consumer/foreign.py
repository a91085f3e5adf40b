"""What other libraries try with data of their own, refused with words that help.

Keras looks for ``__array__`` to tell arrays from other data, and then at the shapes. PyTorch's
DataLoader takes items out of whatever it is given. Without these methods both fail with errors
that do not name the loader, and that say nothing of :meth:`fastloader.FastLoader.as_dataset` and
its like.
"""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import UsageError

NO_ARRAY = (
    "a FastLoader is not an array: iterate over it, or for Keras write "
    "model.fit(loader.as_dataset()), and the same for predict() and evaluate(). The arrays of a "
    "single batch come from loader.peek()"
)


class _NoShape(UsageError, AttributeError):
    """A UsageError, and an AttributeError so that ``hasattr(loader, "shape")`` is False."""

    __module__, __qualname__ = UsageError.__module__, UsageError.__qualname__

    def __reduce__(self) -> tuple[Any, ...]:
        return UsageError, self.args


_NoShape.__name__ = UsageError.__name__


class Foreign:
    """Base class of iterables that are neither arrays nor lists."""

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError(NO_ARRAY)

    @property
    def shape(self) -> NoReturn:
        """There is none. See :meth:`fastloader.FastLoader.peek` for the shape of a batch."""
        raise _NoShape(NO_ARRAY)

    def __getitem__(self, index: object) -> NoReturn:
        raise UsageError(
            "a FastLoader has no items, it delivers whole batches: iterate over it. For PyTorch: "
            "DataLoader(loader.as_torch(), batch_size=None, num_workers=0)"
        )
