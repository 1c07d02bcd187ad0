"""Whether memory ran out. It imports nothing: where it is asked, nothing can be loaded any more."""

__all__ = ["lacks_memory"]

_ENOMEM = 12  # errno.ENOMEM, on Linux and macOS


def lacks_memory(error: Exception) -> bool:
    """Return whether the system has refused memory. Some of these exceptions can be told only by what they say."""
    if isinstance(error, OSError):
        return error.errno == _ENOMEM
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, RuntimeError) and "can't start new thread" in text)
        or (isinstance(error, SystemError) and "without exception set" in text)  # of an extension that forgot to
        or (isinstance(error, ImportError) and ("failed to map segment" in text or "cannot allocate memory" in text))
    )
