"""A finished extraction in STORE/.partial, moved over whatever the store held.

Killed anywhere, the next run goes on from there, because the new manifest in .partial says what belongs where until the last
rename.
"""

from __future__ import annotations

import os
import shutil

from headstart.features import files
from headstart.features.dataset.dataset_table import CONFLICTS
from headstart.features.store.manifest import MANIFEST, WORK_FOLDER, read_manifest


def publish(store: str) -> bool:
    """Moves a finished extraction out of STORE/.partial over what the store held; False when there is none.

    The old manifest goes first and the new one comes last, so a store that a reader opens is whole.
    """
    work = os.path.join(store, WORK_FOLDER)
    if not os.path.isfile(os.path.join(work, MANIFEST)):
        return False
    manifest = read_manifest(work)
    belongs = {*manifest.files, *(shard.name for shard in manifest.shards)}
    if os.path.exists(os.path.join(store, MANIFEST)):
        os.remove(os.path.join(store, MANIFEST))
        files.sync_folder(store)
    for name in os.listdir(store):
        if (".tfrecord-" in name or name == CONFLICTS) and name not in belongs:
            os.remove(os.path.join(store, name))
    for name in sorted(belongs & set(os.listdir(work))):
        os.replace(os.path.join(work, name), os.path.join(store, name))
    files.sync_folder(store)
    os.replace(os.path.join(work, MANIFEST), os.path.join(store, MANIFEST))
    files.sync_folder(store)
    shutil.rmtree(work)
    return True
