"""Which symmetry data obey, and how a network is to obey it as well.

A `FiniteGroup` and its actions say what a symmetry is. `equivariance_report` says how
far a model follows it, `law_test` which symmetries the data have; `FeatureAveraging`,
`DataAugmentation`, `GroupAugmentation` and `FixedKernel` use one. They go around any
Keras model; nothing here needs residual blocks. `MeanFieldEnsemble`, `NoisySGD`, the
distances of clouds and `discover_invariant_subspace` are the theory in which it is
proved what that does.
"""

from keras_lap.symmetry.actions import (
    Action,
    Images,
    Linear,
    Trivial,
    conjugation,
    fixed_basis,
    projector,
)
from keras_lap.symmetry.clouds import (
    plot_clouds,
    project,
    rmd,
    rmd_to_fixed,
    symmetrize,
    w2,
)
from keras_lap.symmetry.discovery import Discovery, discover_invariant_subspace
from keras_lap.symmetry.ensemble import MeanFieldEnsemble, check_joint_equivariance
from keras_lap.symmetry.groups import (
    FiniteGroup,
    cyclic,
    dihedral,
    from_generators,
    mirror,
    rotations,
    sign,
    symmetric,
)
from keras_lap.symmetry.law import law_test
from keras_lap.symmetry.law_report import LawReport, plot_law
from keras_lap.symmetry.layers import FixedKernel, GroupAugmentation
from keras_lap.symmetry.noisy_sgd import NoisySGD
from keras_lap.symmetry.report import (
    EquivarianceReport,
    equivariance_report,
    plot_equivariance,
)
from keras_lap.symmetry.wrappers import DataAugmentation, FeatureAveraging

__all__ = [
    "Action",
    "DataAugmentation",
    "Discovery",
    "EquivarianceReport",
    "FeatureAveraging",
    "FiniteGroup",
    "FixedKernel",
    "GroupAugmentation",
    "Images",
    "LawReport",
    "Linear",
    "MeanFieldEnsemble",
    "NoisySGD",
    "Trivial",
    "check_joint_equivariance",
    "conjugation",
    "cyclic",
    "dihedral",
    "discover_invariant_subspace",
    "equivariance_report",
    "fixed_basis",
    "from_generators",
    "law_test",
    "mirror",
    "plot_clouds",
    "plot_equivariance",
    "plot_law",
    "project",
    "projector",
    "rmd",
    "rmd_to_fixed",
    "rotations",
    "sign",
    "symmetric",
    "symmetrize",
    "w2",
]
