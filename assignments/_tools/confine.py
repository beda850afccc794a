"""Locks the door, then becomes the worker: namespaces, a root of its own, limits.

Started as `python -I -S confine.py JOB`, JOB is JSON: {"wall": full | net | none, "show": paths, "scratch": folder,
"command": [...], "environment": {...}, "processes": n, "file_mib": n}.  full: a user, a network, a process table and a
file system of its own, in which only the paths in `show` exist, read-only. net: no network. none: limits alone.
The worker runs without rights in its namespace, so it cannot undo what is done here.
"""

import ctypes
import json
import os
import re
import signal
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None

NEW_NS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEV, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
FAILED = 97  # the exit status of a door that does not lock
DEVICES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime")


def call(name, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source, target, kind=None, flags=0, data=None):
    texts = [text.encode() if text else None for text in (source, target, kind, data)]
    call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def unshare(flags):
    user, group = os.getuid(), os.getgid()
    call("unshare", flags)
    # 1000 inside: no root, so the rights that a new namespace gives are gone at the next exec
    for name, text in ("setgroups", "deny"), ("uid_map", f"1000 {user} 1"), ("gid_map", f"1000 {group} 1"):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def read_only(path):
    """All mounts at and below a path. Linux before 5.12 lacks the call: then only the topmost."""
    attributes = (ctypes.c_uint64 * 4)(1, 0, 0, 0)  # MOUNT_ATTR_RDONLY
    try:
        call("syscall", 442, -100, path.encode(), ctypes.c_uint(0x8000), attributes, ctypes.c_size_t(32))
    except OSError:
        mount(None, path, None, BIND | 32 | READ_ONLY | os.statvfs(path).f_flag & (NO_SUID | NO_DEV | 8))


def place(path, root, writable=False):
    """Show a path of the real file system at the same place below root."""
    target = root + path
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a"):
            pass
    mount(path, target, None, BIND | RECURSIVE)
    if not writable:
        read_only(target)


def kernel():
    """The kernel's version, (major, minor); (0, 0) if it has another form."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def new_root(root, show):
    """A file system in memory with the system's libraries, what is shown, and an empty /scratch."""
    mount(None, "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", root, "tmpfs", NO_SUID | NO_DEV, "size=256m,nr_inodes=20k,mode=755")
    shown = []
    for path in [path for path in SYSTEM if os.path.lexists(path)] + sorted(show, key=len):
        if not any(path == above or path.startswith(above + "/") for above in shown):
            place(path, root)
            shown.append(path)
    for device in DEVICES:
        place(f"/dev/{device}", root, writable=True)
    for folder in ("/dev/shm", "/tmp", "/scratch", "/proc"):
        os.makedirs(root + folder, exist_ok=True)
    try:
        mount("proc", root + "/proc", "proc", NO_SUID | NO_DEV | 8)
        if kernel() >= (6, 14):  # before, the number is the whole machine's, and root may write it from here
            with open(root + "/proc/sys/kernel/pid_max", "w") as file:
                file.write("400")
    except OSError:
        pass
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", 2)
    os.chdir("/scratch")


def limit(job):
    if not resource:
        return
    processes, mib = job["processes"], 2**20
    if job["wall"] == "none":  # no user of its own: the limit counts what this user runs already
        processes += job["running"]
    limits = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": job["file_mib"] * mib, "RLIMIT_NPROC": processes, "RLIMIT_NOFILE": 256}
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            most = resource.getrlimit(kind)[1]
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(kind, (value, value))


def enter(job):
    """In the process that will be the worker."""
    if job["wall"] != "none":
        call("prctl", 38, 1, 0, 0, 0)  # no new privileges
    limit(job)
    os.execve(job["command"][0], job["command"], job["environment"])


def begin(job):
    """The first process of a namespace: it starts the worker and ends with it, and everything else ends then."""
    call("prctl", 1, signal.SIGKILL, 0, 0, 0)  # end with the process outside
    new_root(job["scratch"], job["show"])
    child = os.fork()
    if child == 0:
        enter(job)
    for number in (0, 1):
        os.close(number)
    while True:
        ended, status = os.wait()
        if ended == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def main():
    job = json.loads(sys.argv[1])
    try:
        if job["wall"] == "full":
            unshare(NEW_USER | NEW_NS | NEW_PID | NEW_NET | NEW_IPC)
            first = os.fork()
            if first == 0:
                begin(job)
            for number in (0, 1):
                os.close(number)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
        if job["wall"] == "net":
            unshare(NEW_USER | NEW_NET)
        os.chdir(job["scratch"])
        enter(job)
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.stderr.flush()
        os._exit(FAILED)


if __name__ == "__main__":
    main()
