"""Building blocks of the heads: layers applied to every RoI, with or without batch norm."""

from dataclasses import dataclass

from keras import layers

from mrcnn.network.layers.norm import BatchNorm, batch_norm
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.layers.whole_conv import WholeConv2D


@dataclass(frozen=True)
class HeadLayers:
    """Creates the head layers that are applied to every RoI.

    Attributes:
        where: one of `conventions.HEAD_NORMS`.
        train_bn: batch norm uses and updates batch statistics.
        epsilon: epsilon of batch norm.
    """

    where: str = "all"
    train_bn: bool = False
    epsilon: float = 1e-3

    def batch_norm(self, name: str) -> BatchNorm:
        """Return a batch norm."""
        return batch_norm(name, train_bn=self.train_bn, epsilon=self.epsilon)

    def conv(self, name: str, norm: str, channels: int, size: int) -> list[layers.Layer]:
        """Return a size-preserving convolution, a batch norm named `norm`, and ReLU."""
        convolution = layers.Conv2D(
            channels, size, padding="same", use_bias=self.where != "convolutions", name=name
        )
        return self._followed(convolution, norm, self.where != "none")

    def dense(self, name: str, norm: str, channels: int, size: int) -> list[layers.Layer]:
        """Return a convolution over the whole RoI, size x size, batch norm, and ReLU."""
        convolution = WholeConv2D(channels, size, name=name)
        return self._followed(convolution, norm, self.where == "all")

    def _followed(self, layer: layers.Layer, norm: str, has_norm: bool) -> list[layers.Layer]:
        norms = [TimeDistributed(self.batch_norm(norm))] if has_norm else []
        return [TimeDistributed(layer), *norms, layers.ReLU()]
