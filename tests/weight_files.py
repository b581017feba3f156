"""Weight files as others write them."""

from pathlib import Path

import h5py

from mrcnn.weights import hdf5_content


def unseal(path: Path) -> None:
    """Take away the checksums, as of a file that an older version of this package wrote."""

    def visit(_: str, node: h5py.HLObject) -> None:
        if hdf5_content.SEAL in node.attrs:
            del node.attrs[hdf5_content.SEAL]

    with h5py.File(path, "r+") as file:
        del file.attrs[hdf5_content.SEAL]
        file.visititems(visit)
