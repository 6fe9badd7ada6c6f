"""What an error of a full disk, missing rights, short memory or a killed process means, and what to do.

Such errors come from the system, through libraries that raise them in their own words, or hide them behind another one:
PyTorch's writer of a file raises ``unexpected pos 1125568``, with the error of the system only in its context.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from duchenne.errors import UserError, printable, short

AGAIN = "then give the same command again: what is finished is kept"

ERRORS = {
    errno.ENOSPC: f"the disk is full{{left}}: make room, {AGAIN}",
    errno.EDQUOT: f"your quota of the disk is used up: make room, {AGAIN}",
    errno.EFBIG: f"a file may not be larger here (`ulimit -f`, or the file system): raise the limit, {AGAIN}",
    errno.EROFS: "this disk is read-only: work in a folder that can be written",
    errno.EACCES: "no permission ({user}): change its owner or mode, or work in a folder of your own",
    errno.EPERM: "no permission ({user}): change its owner or mode, or work in a folder of your own",
    errno.EMFILE: f"too many open files (`ulimit -n` is {{files}}): raise it, `ulimit -n 4096`, {AGAIN}",
    errno.ENFILE: f"too many open files on this machine: end other programs, {AGAIN}",
    errno.ENOMEM: "{memory}",
    errno.EIO: f"the disk did not read or write (input/output error): check it (`dmesg`), {AGAIN}",
    errno.ESTALE: f"the network disk lost the file (stale file handle): mount it again, {AGAIN}",
}
"""Number of an error of the system -> what is wrong, and what to do."""

MEMORY = (
    "memory is short: make it less by compute.folds_at_once: 1, compute.jobs: 1, compute.loader_workers: 0, a smaller "
    f"recipe.eval_batch_size, or a smaller recipe.batch_size, which changes the result; {AGAIN}"
)
_LOADER = (
    "a process that loads samples was killed, perhaps for lack of memory: set a smaller compute.loader_workers, or 0, "
    f"{AGAIN}"
)
_SHARED = (
    "shared memory (/dev/shm) is full: set compute.loader_workers: 0, or give the container more (docker run "
    f"--shm-size), {AGAIN}"
)
_THREADS = f"no further process or thread can be started (`ulimit -u`): end other programs, or raise it, {AGAIN}"

WORDS = (
    (r"out of shared memory|unable to (open|resize|mmap).*shared memory|signal: Bus error", _SHARED),
    (r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\) (is killed|exited)", _LOADER),
    (r"[Tt]oo many open files|items of ancdata", ERRORS[errno.EMFILE]),
    (r"can't start new thread|pthread_create.*failed", _THREADS),
    (r"(CUDA|HIP|XPU|MPS).* out of memory", "the memory of the GPU is short" + MEMORY.removeprefix("memory is short")),
    (r"([Cc]annot|can't) allocate memory|Insufficient memory|std::bad_alloc|not enough memory", "{memory}"),
    (r"failed to map segment from shared object", "{memory}"),
    (r"could not (create|execute) a (primitive|memory)", "{memory}"),  # oneDNN's, which has no other words for it
)
"""Words of errors without a number (regular expression) -> what is wrong, and what to do."""

_NUMBERED = re.compile(r"\[[Ee]rrno (\d+)\]")
_OF_ANY = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
"""Errors that say the same, whatever was done when they came."""
_OF_FFMPEG = {errno.EMFILE, errno.ENFILE, errno.ESTALE}
_OF_NOW = {*_OF_FFMPEG, errno.ENOMEM, errno.EIO, errno.ETIMEDOUT, errno.ENOTCONN}
"""Errors of reading that may be gone when the file is read again."""
FFMPEG_MOST = 2**31
"""Bytes of memory above which FFmpeg itself refuses what a damaged header asks for."""
WHOLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Errors that whatever is written next meets too."""


def explain(error: BaseException) -> str | None:
    """Return one message for an error of the machine: the file, what is wrong, and what to do; None: another error."""
    found = cause(error)
    if found is not None and found.errno in ERRORS:
        file = found.filename2 or found.filename
        where = f"{short(printable(str(file)))}: " if file is not None else ""
        return where + _filled(ERRORS[found.errno], file)
    for each in _chain(error):
        if isinstance(each, MemoryError):
            return _filled("{memory}", None)
        if isinstance(each, RuntimeError | ImportError | OSError) or type(each).__module__ == "cv2":
            text = str(each)
            if words := next((do for pattern, do in WORDS if re.search(pattern, text)), None):
                return _filled(words, None)
    return None


def cause(error: BaseException) -> OSError | None:
    """Return the error of the system that another one came from, or is; None if there is none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _OF_ANY:
            return each
        if not isinstance(each, UserError) and (found := _NUMBERED.search(str(each))):  # shutil.Error, other processes
            number = int(found[1])
            if number in _OF_ANY:
                return OSError(number, os.strerror(number))
    return None


def stop_if_short(error: BaseException, file: object = None) -> None:
    """Raise an error again that says something of the machine at this moment, and nothing of the file that was read.

    Otherwise a picture that could not be opened because too many files were open would count as a damaged one for good.
    Of FFmpeg's errors only few are of the system: it calls damaged files input/output errors, or too large for memory.

    Args:
        file: path of what was read, for an error without one: reading an open file raises such errors.
    """
    of_ffmpeg = type(error).__module__.partition(".")[0] == "av"
    if isinstance(error, MemoryError):
        short_now = not of_ffmpeg or not _can_be_had(FFMPEG_MOST)
    else:
        short_now = isinstance(error, OSError) and error.errno in (_OF_FFMPEG if of_ffmpeg else _OF_NOW)
    if not short_now:
        return
    if isinstance(file, Path) and getattr(error, "filename", None) is None:
        number = error.errno if isinstance(error, OSError) and error.errno else errno.ENOMEM
        raise OSError(number, os.strerror(number), str(file)) from error
    raise error


def _can_be_had(memory: int) -> bool:
    """Whether the system would give so many bytes of memory now."""
    try:
        mmap.mmap(-1, memory).close()
    except (OSError, MemoryError):
        return False
    return True


def spoils_all(error: BaseException) -> bool:
    """Whether it makes no sense to begin more work that writes."""
    found = cause(error)
    return found is not None and found.errno in WHOLE


@contextlib.contextmanager
def naming(path: Path, part: Path | None = None) -> Iterator[None]:
    """Give errors of the system that are raised inside the name of the file that was to be written.

    Args:
        part: temporary file or folder in its place, whose names are replaced too.
    """
    try:
        yield
    except Exception as error:
        found = None if isinstance(error, UserError) else cause(error)
        if found is None or found.errno is None or (error is not found and found.errno not in _OF_ANY):
            raise
        given = found.filename2 or found.filename
        name = None if given is None else os.fsdecode(given)
        if name is not None and (part is None or not Path(name).is_relative_to(part)):
            raise
        raise OSError(found.errno, os.strerror(found.errno), str(path)) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    seen: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in seen:
        seen.append(each)
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _filled(text: str, file: object) -> str:
    values = {"memory": MEMORY, "left": _left(file), "user": _user(), "files": _files()}
    return text.format(**values)


def _left(file: object) -> str:
    """Return what is left on the disk of a file, for it says whether the bytes or the number of files ran out."""
    place = Path(os.fsdecode(file)) if isinstance(file, str | bytes | os.PathLike) else None
    try:
        while place is not None and not place.exists() and place != place.parent:
            place = place.parent
        state = os.statvfs(place) if place is not None else None
        free = shutil.disk_usage(place).free if place is not None else 0
    except OSError:
        return ""
    if state is None:
        return ""
    if state.f_files and not state.f_favail:
        return " (it can hold no more files)"
    return f" ({free / 1e6:.0f} MB left)" if free < 1e9 else f" ({free / 1e9:.0f} GB left)"


def _user() -> str:
    return f"user {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


def _files() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "too low"
    return str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
