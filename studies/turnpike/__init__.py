"""The studies of running costs over a horizon, one a module, each a command.

Esteve-Yagüe, Geshkovski, Pighin, Zuazua, *Large-time asymptotics in deep learning*,
arXiv 2008.02491. What they find is measured against criteria that were set before.
"""
