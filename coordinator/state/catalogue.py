"""What is published: the manifests of a job's runs, and the pointer to the newest."""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.errors import AlreadyExists, Changed, KeyMissing, LedgerBroken, OutcomeUnknown
from coordinator.keys import JobKeys, RunKeys, after_folder, folder_in
from coordinator.model import Manifest, Pointer, check_digest
from coordinator.store.ports import Got, Store
from coordinator.store.prefetch import in_order

_POINTER_TRIES = 20


def read_manifest(store: Store, keys: RunKeys) -> Manifest:
    """The manifest of a published run.

    Raises:
        KeyMissing: it has none.
        LedgerBroken: it can't be read, or is not what was written.
    """
    body, where = store.get(keys.manifest).body, store.url(keys.manifest)
    manifest = Manifest.decode(body, where=where)
    check_digest(body, where=where)
    return manifest


def manifests(store: Store, job: str) -> Iterator[Manifest]:
    """The manifests of all published runs of a job, in order of run ids. What is not as it was
    published is passed over: `verify` names it."""
    keys = JobKeys(job)

    def read(run_id: str) -> Manifest | None:
        try:
            return read_manifest(store, keys.run(run_id))
        except (KeyMissing, LedgerBroken):
            return None

    for _, manifest in in_order(store.lanes, store_folders(store, keys.published), read):
        if manifest is not None:
            yield manifest


def store_folders(store: Store, prefix: str) -> Iterator[str]:
    """The names of the folders below a prefix, in order, without reading what lies in them."""
    after = ""
    while (first := next(iter(store.list(prefix, after=after)), None)) is not None:
        name = folder_in(prefix, first.key)
        yield name
        after = after_folder(prefix, name)


def pointer_to(keys: RunKeys, manifest: Manifest) -> Pointer:
    """What points at a published run."""
    return Pointer(
        job=manifest.job,
        run_id=manifest.run_id,
        logical_time=manifest.logical_time,
        manifest=keys.manifest,
        results=manifest.results_prefix,
    )


def read_pointer(store: Store, job: str, source_key: str | None = None) -> Pointer | None:
    """Where the newest result is; None where nothing has been published.

    Raises:
        LedgerBroken: the pointer can't be read; the next run that is published mends it.
    """
    key = JobKeys(job).latest(source_key)
    try:
        return Pointer.decode(store.get(key).body, where=store.url(key))
    except KeyMissing:
        return None


def points_at(store: Store, manifest: Manifest) -> bool:
    """Whether the pointer stands on a published run."""
    pointer = read_pointer(store, manifest.job, manifest.source_key)
    return pointer is not None and pointer.run_id == manifest.run_id


def holds(store: Store, pointer: Pointer) -> bool:
    """Whether a pointer says what the manifest of its run does."""
    keys = RunKeys(pointer.job, pointer.run_id)
    try:
        return pointer_to(keys, read_manifest(store, keys)) == pointer
    except (KeyMissing, LedgerBroken):
        return False


def move_pointer(store: Store, keys: RunKeys, manifest: Manifest) -> bool:
    """Move the pointer forward, never back; False where a newer run's stands. A pointer that can't
    be read, or that no manifest bears out, is written anew, to the newest run that is published.

    Raises:
        Changed: others were faster every time.
    """
    key = keys.latest(manifest.source_key)
    own = pointer_to(keys, manifest)
    for _ in range(_POINTER_TRIES):
        got = _get(store, key)
        wanted = own
        if got is not None:
            standing = _decoded(store, key, got)
            if standing == own:
                return True
            if standing is None or order_of(standing) > order_of(own):
                if standing is not None and holds(store, standing):
                    return False
                wanted = max(_published(store, manifest, own), key=order_of)
        try:
            if got is None:
                store.create(key, wanted.encode())
            else:
                store.replace(key, wanted.encode(), got.tag)
        except (AlreadyExists, Changed, OutcomeUnknown):
            continue
        return wanted == own
    raise Changed(f"{store.url(key)} kept changing; try again.")


def _decoded(store: Store, key: str, got: Got) -> Pointer | None:
    try:
        return Pointer.decode(got.body, where=store.url(key))
    except LedgerBroken:
        return None


def _published(store: Store, manifest: Manifest, own: Pointer) -> Iterator[Pointer]:
    """What could be pointed at."""
    yield own
    keys = JobKeys(manifest.job)
    for other in manifests(store, manifest.job):
        if other.source_key == manifest.source_key:
            yield pointer_to(keys.run(other.run_id), other)


def order_of(pointer: Pointer | Manifest) -> tuple[float, str]:
    """What decides which of two runs is the newer."""
    return pointer.logical_time, pointer.run_id


def _get(store: Store, key: str) -> Got | None:
    try:
        return store.get(key)
    except KeyMissing:
        return None
