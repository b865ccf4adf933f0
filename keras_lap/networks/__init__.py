"""The residual networks of the papers, as Functional models that return logits.

`neural_ode` is the Euler scheme of an ODE over a horizon, and `continue_from` takes one
to another horizon. Of all others: in go the shape of the images, the number of classes
and the options below, out comes a `keras.Model` that is not compiled. Used by studies,
tutorials and whoever trains.

Their layers follow the code of Karkar, Ayed, de Bezenac and Gallinari, "A Principle of
Least Action for the Training of Neural Networks", 2020, arXiv:2009.08372. Every
residual merge is one `keras.layers.Add`, named `..._add`. Images are channels-last.

The options that these networks share:

* `batch_norm`: whether to normalise. A convolution or dense layer has a bias exactly
  where no batch normalisation directly follows it.
* `time_step`: the step `h > 0` of `x_{k+1} = x_k + h * v_k(x_k)`.
* `kernel_initializer`: for the kernels of all convolution and dense layers, anything
  `keras.initializers.get` takes; `None` is Kaiming normal over the fan-out. An integer
  seed is turned into one seed per layer, so that no two layers start equal.
* `name`: the name of the model.
"""

from keras_lap.networks.continuation import continue_from
from keras_lap.networks.neural_ode import neural_ode
from keras_lap.networks.pre_activation import (
    avgpool_resnet,
    one_representation_resnet,
    resnet,
    resnet9,
    wide_resnet,
)
from keras_lap.networks.resnext import resnext29, resnext50

__all__ = [
    "avgpool_resnet",
    "continue_from",
    "neural_ode",
    "one_representation_resnet",
    "resnet",
    "resnet9",
    "resnext29",
    "resnext50",
    "wide_resnet",
]
