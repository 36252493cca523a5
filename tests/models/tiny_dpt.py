"""Tiny transformers for tests."""

import torch

from models.dpt import DPT

WIDTHS = (4, 6, 32)


def settled(order, widths=WIDTHS, **options):
    """An untrained transformer in evaluation mode whose normalizations are not the identity."""
    torch.manual_seed(0)
    network = DPT(order, widths, **options).train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        for _ in range(3):
            network(torch.randint(0, 256, (2, 33, 16, 24)).float())
    return network.eval()
