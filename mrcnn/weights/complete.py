"""Check that a weights file is complete for a network."""

from pathlib import Path

from mrcnn.config import Config
from mrcnn.network import network as networks
from mrcnn.weights import hdf5


def check_layers(path: Path, config: Config) -> None:
    """Raise ValueError unless a file has all weights of a network with matching shapes.

    The weights themselves are not read.
    """
    wanted = hdf5.weights_by_name(networks.Network(config).inference)
    with hdf5.arrays_of(path, wanted) as arrays:
        missing = [name for name in wanted if name not in arrays]
        if missing:
            raise ValueError(f"{path}: {len(missing)} weights are missing, {missing[0]} first")
        wrong = [name for name in wanted if tuple(arrays[name].shape) != tuple(wanted[name].shape)]
        if wrong:
            raise ValueError(
                f"{path}: {len(wrong)} weights have other shapes than the network's: the first, "
                f"{wrong[0]}, {tuple(arrays[wrong[0]].shape)}, not {tuple(wanted[wrong[0]].shape)}"
            )
