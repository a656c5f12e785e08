"""A disk in memory, registered with SQLite as a layer below it (VFS).

It knows for each file what is certain to survive a power cut and what is not yet, holds locks and
shared memory per simulated process, and asks the world before each operation whether it may
succeed. Only one world at a time uses it. Source: https://www.sqlite.org/c3ref/vfs.html
"""

import ctypes
import random
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_double, c_int, c_int64, c_void_p
from itertools import count
from typing import Any

from receiver.store.connection import sqlite3

NAME = "simulation"
OK, BUSY, IOERR, NOTFOUND, CANTOPEN = 0, 5, 10, 12, 14
SHORT_READ = IOERR | 2 << 8
SECTOR = 512
_OPEN_CREATE = 0x4
_FCNTL_HAS_MOVED = 20
_POWERSAFE_OVERWRITE = 0x1000
_SHARED, _RESERVED, _PENDING, _EXCLUSIVE = 1, 2, 3, 4
_SHM_UNLOCK, _SHM_SHARED = 1, 4

Change = tuple[int, bytes | None]


class Inode:
    """A file's content: as programs see it, and as it is certain on disk."""

    numbers = count(1)

    def __init__(self, content: bytes = b"") -> None:
        self.number = next(self.numbers)
        self.content = bytearray(content)
        self.certain = bytearray(content)
        # (offset, bytes), or (length, None), since the last sync.
        self.pending: list[Change] = []
        self.is_certain = bool(content)
        self.locks: dict[Handle, int] = {}
        self.attached: set[Handle] = set()
        self.regions: list[Any] = []
        self.slots: list[dict[Handle, bool]] = [{} for _ in range(8)]

    def change(self, offset: int, data: bytes | None) -> None:
        _apply(self.content, offset, data)
        self.pending.append((offset, data))

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.certain, *change)
        self.pending.clear()
        self.is_certain = True

    def after_power_cut(self, chance: random.Random) -> "Inode":
        """What is certain, and of the rest nothing, all or some sectors, in any order."""
        content, share = bytearray(self.certain), chance.choice((0.0, 0.0, 0.5, 1.0))
        for offset, data in self.pending if share else ():
            if data is None:
                if chance.random() < share:
                    _apply(content, offset, None)
                continue
            for start in range(0, len(data), SECTOR):
                if chance.random() < share:
                    _apply(content, offset + start, data[start : start + SECTOR])
        return Inode(bytes(content))

    def drop(self, handle: "Handle") -> None:
        """Release what a handle has locked and mapped."""
        self.locks.pop(handle, None)
        self.attached.discard(handle)
        for slot in self.slots:
            slot.pop(handle, None)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


class Handle:
    """A file opened by one simulated process."""

    def __init__(self, name: str, inode: Inode, owner: Any) -> None:
        self.name, self.inode, self.owner = name, inode, owner
        # The memory it has mapped, which must outlive it.
        self.mapped = inode.regions


class Disk:
    """Names and files. `world` has `step(operation, handle) -> code` and `owner()`."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.names: dict[str, Inode] = {}
        # Deleted, but a power cut may bring them back.
        self.forgotten: dict[str, Inode] = {}

    def identity(self, name: str) -> tuple[int, int] | None:
        inode = self.names.get(name)
        return inode and (1, inode.number)

    def unlink(self, name: str) -> Inode | None:
        return self.names.pop(name, None)

    def power_cut(self, chance: random.Random) -> None:
        for name, inode in self.forgotten.items():
            if name not in self.names and chance.random() < 0.5:
                self.names[name] = inode
        kept = {
            name: inode.after_power_cut(chance)
            for name, inode in self.names.items()
            if inode.is_certain or chance.random() < 0.5
        }
        self.names, self.forgotten = kept, {}


# -- SQLite's side -------------------------------------------------------------------------------


class _Nowhere:
    """Between two histories every operation fails: Python may close a connection late."""

    def step(self, _operation: str, _handle: Any) -> int:
        return IOERR


_disk = Disk(_Nowhere())
_handles: dict[int, Handle] = {}


def use(disk: Disk) -> None:
    """Let `disk` be the one that SQLite sees."""
    global _disk
    _disk = disk
    _handles.clear()


def leave() -> None:
    """Let SQLite see no disk."""
    use(Disk(_Nowhere()))


def release(owner: Any) -> None:
    """Drop all locks of a process that has gone."""
    for handle in _handles.values():
        if handle.owner is owner:
            handle.inode.drop(handle)


class _File(Structure):
    _fields_ = (("methods", c_void_p), ("number", c_int64))


_numbers = count(1)
_F = POINTER(_File)
_V = c_void_p


def _open(_vfs: int, name: bytes | None, file: Any, flags: int, out: Any) -> int:
    file.contents.methods = None
    text = name.decode() if name else f"temporary{next(_numbers)}"
    if code := _disk.world.step("open", None):
        return CANTOPEN if code == IOERR else code
    inode = _disk.names.get(text)
    if inode is None:
        if not flags & _OPEN_CREATE:
            return CANTOPEN
        inode = _disk.names[text] = Inode()
    number = next(_numbers)
    _handles[number] = Handle(text, inode, _disk.world.owner())
    file.contents.number = number
    file.contents.methods = ctypes.addressof(_METHODS)
    if out:
        out[0] = flags
    return OK


def _delete(_vfs: int, name: bytes, sync_directory: int) -> int:
    if code := _disk.world.step("delete", None):
        return code
    inode = _disk.unlink(name.decode())
    if inode is not None and inode.is_certain and not sync_directory:
        _disk.forgotten[name.decode()] = inode
    return OK


def _access(_vfs: int, name: bytes, flags: int, out: Any) -> int:
    inode = _disk.names.get(name.decode())
    # Whether it exists is asked of the log: an empty one counts as none.
    out[0] = inode is not None and (flags != 0 or len(inode.content) > 0)
    return OK


def _full_pathname(_vfs: int, name: bytes, size: int, out: int) -> int:
    ctypes.memmove(out, name + b"\0", len(name) + 1)
    return OK


def _randomness(_vfs: int, size: int, out: int) -> int:
    ctypes.memmove(out, _disk.world.chance.randbytes(size), size)
    return size


def _sleep(_vfs: int, microseconds: int) -> int:
    return microseconds


def _current_time(_vfs: int, out: Any) -> int:
    out[0] = 2_460_000.5
    return OK


def _current_time_int64(_vfs: int, out: Any) -> int:
    out[0] = 212_500_000_000_000
    return OK


def _last_error(_vfs: int, _size: int, _out: int) -> int:
    return OK


def _of(file: Any) -> Handle:
    return _handles[file.contents.number]


def _close(file: Any) -> int:
    handle = _handles.pop(file.contents.number, None)
    if handle is not None:
        handle.inode.drop(handle)
    return OK


def _read(file: Any, buffer: int, size: int, offset: int) -> int:
    handle = _handles.get(file.contents.number)
    if handle is None or handle.owner.is_dead:
        return IOERR
    if code := _disk.world.fault("read"):
        return code
    found = bytes(handle.inode.content[offset : offset + size])
    ctypes.memmove(buffer, found, len(found))
    if len(found) < size:
        ctypes.memset(buffer + len(found), 0, size - len(found))
        return SHORT_READ
    return OK


def _write(file: Any, buffer: int, size: int, offset: int) -> int:
    handle = _handles.get(file.contents.number)
    if code := _disk.world.step("write", handle):
        return code
    handle.inode.change(offset, ctypes.string_at(buffer, size))
    return OK


def _truncate(file: Any, size: int) -> int:
    handle = _handles.get(file.contents.number)
    if code := _disk.world.step("truncate", handle):
        return code
    handle.inode.change(size, None)
    return OK


def _sync(file: Any, _flags: int) -> int:
    handle = _handles.get(file.contents.number)
    if code := _disk.world.step("sync", handle):
        return code
    handle.inode.sync()
    return OK


def _file_size(file: Any, out: Any) -> int:
    handle = _handles.get(file.contents.number)
    if handle is None:
        return IOERR
    out[0] = len(handle.inode.content)
    return OK


def _lock(file: Any, level: int) -> int:
    handle = _handles.get(file.contents.number)
    if code := _disk.world.step("lock", handle):
        return code
    locks = handle.inode.locks
    if locks.get(handle, 0) >= level:
        return OK
    others = max((has for other, has in locks.items() if other is not handle), default=0)
    if level == _SHARED and others >= _PENDING:
        return BUSY
    if level == _RESERVED and others >= _RESERVED:
        return BUSY
    if level == _EXCLUSIVE and others:
        if others < _RESERVED:
            locks[handle] = _PENDING
        return BUSY
    locks[handle] = level
    return OK


def _unlock(file: Any, level: int) -> int:
    handle = _handles.get(file.contents.number)
    if handle is not None and not handle.owner.is_dead:
        handle.inode.locks[handle] = level
        if not level:
            del handle.inode.locks[handle]
    return OK


def _check_reserved(file: Any, out: Any) -> int:
    out[0] = max(_of(file).inode.locks.values(), default=0) >= _RESERVED
    return OK


def _file_control(file: Any, operation: int, argument: int) -> int:
    if operation == _FCNTL_HAS_MOVED:
        handle = _handles.get(file.contents.number)
        moved = handle is None or _disk.names.get(handle.name) is not handle.inode
        ctypes.cast(argument, POINTER(c_int))[0] = moved
        return OK
    return NOTFOUND


def _sector_size(_file: Any) -> int:
    return 4096


def _characteristics(_file: Any) -> int:
    return _POWERSAFE_OVERWRITE


def _shm_map(file: Any, number: int, size: int, extend: int, out: Any) -> int:
    handle = _handles.get(file.contents.number)
    out[0] = None
    if code := _disk.world.step("map", handle):
        return code
    inode = handle.inode
    if not inode.attached:
        inode.regions = []
    inode.attached.add(handle)
    handle.mapped = inode.regions
    while len(inode.regions) <= number:
        if not extend:
            return OK
        inode.regions.append(ctypes.create_string_buffer(size))
    out[0] = ctypes.addressof(inode.regions[number])
    return OK


def _shm_lock(file: Any, first: int, number: int, flags: int) -> int:
    handle = _handles.get(file.contents.number)
    if flags & _SHM_UNLOCK:
        if handle is not None and not handle.owner.is_dead:
            for slot in handle.inode.slots[first : first + number]:
                slot.pop(handle, None)
        return OK
    if code := _disk.world.step("shmlock", handle):
        return code
    slots = handle.inode.slots[first : first + number]
    exclusive = not flags & _SHM_SHARED
    for slot in slots:
        if any(other is not handle and (exclusive or alone) for other, alone in slot.items()):
            return BUSY
    for slot in slots:
        slot[handle] = exclusive
    return OK


def _shm_barrier(_file: Any) -> None:
    pass


def _shm_unmap(file: Any, _delete: int) -> int:
    handle = _handles.get(file.contents.number)
    if handle is not None:
        handle.inode.attached.discard(handle)
        for slot in handle.inode.slots:
            slot.pop(handle, None)
    return OK


_INT, _INT64 = POINTER(c_int), POINTER(c_int64)
_METHOD_TYPES = [
    ("close", _close, (c_int, _F)),
    ("read", _read, (c_int, _F, c_void_p, c_int, c_int64)),
    ("write", _write, (c_int, _F, c_void_p, c_int, c_int64)),
    ("truncate", _truncate, (c_int, _F, c_int64)),
    ("sync", _sync, (c_int, _F, c_int)),
    ("size", _file_size, (c_int, _F, _INT64)),
    ("lock", _lock, (c_int, _F, c_int)),
    ("unlock", _unlock, (c_int, _F, c_int)),
    ("check_reserved", _check_reserved, (c_int, _F, _INT)),
    ("control", _file_control, (c_int, _F, c_int, c_void_p)),
    ("sector", _sector_size, (c_int, _F)),
    ("characteristics", _characteristics, (c_int, _F)),
    ("shm_map", _shm_map, (c_int, _F, c_int, c_int, c_int, POINTER(c_void_p))),
    ("shm_lock", _shm_lock, (c_int, _F, c_int, c_int, c_int)),
    ("shm_barrier", _shm_barrier, (None, _F)),
    ("shm_unmap", _shm_unmap, (c_int, _F, c_int)),
]
_VFS_TYPES = [
    ("open", _open, (c_int, _V, c_char_p, _F, c_int, _INT)),
    ("delete", _delete, (c_int, _V, c_char_p, c_int)),
    ("access", _access, (c_int, _V, c_char_p, c_int, _INT)),
    ("full_pathname", _full_pathname, (c_int, _V, c_char_p, c_int, c_void_p)),
    ("dl_open", None, ()),
    ("dl_error", None, ()),
    ("dl_sym", None, ()),
    ("dl_close", None, ()),
    ("randomness", _randomness, (c_int, _V, c_int, c_void_p)),
    ("sleep", _sleep, (c_int, _V, c_int)),
    ("current_time", _current_time, (c_int, _V, POINTER(c_double))),
    ("last_error", _last_error, (c_int, _V, c_int, c_void_p)),
    ("current_time_int64", _current_time_int64, (c_int, _V, _INT64)),
]


def _structure(head: list[tuple[str, Any]], types: list[Any]) -> type[Structure]:
    fields = [*head, *((name, c_void_p) for name, _, _ in types)]
    return type("Methods", (Structure,), {"_fields_": fields})


_kept: list[Any] = []


def _fill(structure: Structure, types: list[Any]) -> None:
    for name, function, signature in types:
        if function is not None:
            callback = CFUNCTYPE(*signature)(function)
            _kept.append(callback)
            setattr(structure, name, ctypes.cast(callback, c_void_p).value)


_METHODS = _structure([("version", c_int)], _METHOD_TYPES)(version=2)
_fill(_METHODS, _METHOD_TYPES)
_VFS = _structure(
    [
        *(("version", c_int), ("file_size", c_int), ("path_size", c_int)),
        *(("next", c_void_p), ("name", c_char_p), ("data", c_void_p)),
    ],
    _VFS_TYPES,
)(version=2, file_size=ctypes.sizeof(_File), path_size=512, name=NAME.encode())
_fill(_VFS, _VFS_TYPES)


def register() -> bool:
    """Make the disk known to SQLite. Whether that is possible: its library must be reachable."""
    import importlib

    module = importlib.import_module(sqlite3.connect.__module__ or "")
    library = ctypes.CDLL(getattr(module, "__file__", None))
    function = getattr(library, "sqlite3_vfs_register", None)
    if function is None:
        return False
    function.argtypes = (c_void_p, c_int)
    return bool(function(ctypes.addressof(_VFS), 0) == OK)
