"""The residual networks of the papers, as Functional models that return logits.

`neural_ode` is the Euler scheme of an ODE over a horizon, and `continue_from` takes one
to another horizon. Of all others: in go the shape of the images, the number of classes
and the options below, out comes a `keras.Model` that is not compiled. Used by studies,
tutorials and whoever trains.

They are those of Karkar, Ayed, de Bezenac and Gallinari, "A Principle of Least Action
for the Training of Neural Networks", 2020, arXiv:2009.08372. With `like_the_paper=True`
padding, biases, stems and heads are those of the authors' code, whose weights then fit;
by default they deviate from it, each as its docstring says. Every residual merge is one
`keras.layers.Add`, named `..._add`. Images are channels-last.

The options that these networks share:

* `batch_norm`: whether to normalise. By default a convolution or dense layer has a
  bias exactly where no batch normalisation directly follows it.
* `like_the_paper`: whether to build the network of the authors' code. There only stems
  and dense layers have biases, strided convolutions are padded alike on both sides,
  moving variances are unbiased as in PyTorch, and no `batch_norm` means none within the
  blocks. The pooling of a head takes in all of an image that is smaller than its
  window, which the authors' code refuses.
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
