"""Domain heads as sd-scripts trains them: `--network_module training.asymmetric_network --network_train_unet_only`.

The methods are those that its train_network.py calls (commit 48d368fa).  Nothing of sd-scripts is imported, so the
network serves other engines too.  Its options: heads/options.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.types import Device

from makeanything.asymmetric_lora import AsymmetricLora
from makeanything.domains import Domain

from .heads.layer import linear_layers
from .heads.merged import merge_into
from .heads.network import HeadNetwork
from .heads.options import Options

RANK, ALPHA = 64, 1.0
"""Of the released files."""


class AsymmetricNetwork(HeadNetwork):
    """The network with the methods that sd-scripts calls."""

    train_t5xxl = False
    applied = False

    def prepare_network(self, args: argparse.Namespace) -> None:
        """Refuse arguments under which training could not end well."""
        if args.save_model_as != "safetensors":
            raise ValueError(f"heads are saved as safetensors, not as {args.save_model_as}: drop --save_model_as")

    def apply_to(self, text_encoders: object, unet: nn.Module, train_text_encoder: bool, train_unet: bool) -> None:
        """Make the heads act on the model.  ValueError for text encoders, which have no heads."""
        if train_text_encoder or not train_unet:
            raise ValueError("heads live in the FLUX alone, not in text encoders: pass --network_train_unet_only")
        if self.applied:
            raise ValueError("the network is applied to a model already")
        self.attach(unet)
        self.applied = True

    def load_weights(self, file: str | os.PathLike[str]) -> str:
        """Resume from a file: ValueError names what differs (see HeadNetwork.load).  Returns what was loaded."""
        self.load(AsymmetricLora.open(file))
        return f"{len(self.domains)} heads of rank {self.rank}: {', '.join(domain.name for domain in self.domains)}"

    def save_weights(
        self, file: str | os.PathLike[str], dtype: torch.dtype | None, metadata: Mapping[str, str] | None
    ) -> None:
        """Write the heads with their domains and sd-scripts' metadata, atomically."""
        if Path(file).suffix != ".safetensors":
            raise ValueError(f"heads are saved as safetensors, not as {Path(file).name}")
        # The arguments may leave these to the file that the network was made from.
        own = {"ss_network_dim": str(self.rank), "ss_network_alpha": str(self.alpha)}
        self.save(file, dtype, {**(metadata or {}), **own})

    def prepare_optimizer_params_with_multiple_te_lrs(
        self, text_encoder_lr: object, unet_lr: float | None, default_lr: float | None
    ) -> tuple[list[dict[str, object]], list[str]]:
        """One parameter group for A and one for each head that trains, with their names for the logs."""
        lr = default_lr if unet_lr is None else unet_lr
        if not lr:
            raise ValueError("the heads have no learning rate: pass --learning_rate or --unet_lr")
        groups = self.groups()
        return [{"params": parameters, "lr": lr} for _, parameters in groups], [name for name, _ in groups]

    def prepare_grad_etc(self, text_encoder: object, unet: nn.Module) -> None:
        """Set again what trains, whatever moved or wrapped the network since."""
        self.freeze(*self._frozen)

    def get_trainable_params(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def on_epoch_start(self, text_encoder: object, unet: nn.Module) -> None:
        self.train()

    def enable_gradient_checkpointing(self) -> None:
        """The model's own checkpointing is enough: an update stores no more than its layer."""

    def set_multiplier(self, multiplier: float) -> None:
        self.route.multiplier = float(multiplier)

    def apply_max_norm_regularization(self, max_norm: float, device: object) -> tuple[int, float, float]:
        """Shrink the B of the batch's heads (see AsymmetricLinear.limit_norm); heads that rest are left alone.

        Returns the number of updates shrunk, and the mean and the largest of the norms they now have.
        """
        heads = sorted(set(self.route.heads) - self._frozen[1])
        norms = [self.layer(name).limit_norm(head, max_norm) for name in self.targets for head in heads]
        kept = [min(norm, max_norm) for norm in norms]
        return sum(norm > max_norm for norm in norms), sum(kept) / max(len(kept), 1), max(kept, default=0.0)

    def merge_to(
        self, text_encoders: object, unet: nn.Module, weights_sd: Mapping[str, Tensor], dtype: object, device: Device
    ) -> None:
        """Merge the network's only head into the model (see merge_into); called for --base_weights."""
        if len(self.domains) != 1:
            raise ValueError(f"one head can be merged, this network has {len(self.domains)}")
        ordinary = {key.replace(".lora_ups.0.", ".lora_up."): tensor for key, tensor in weights_sd.items()}
        merge_into(unet, ordinary, self.route.multiplier, device)


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: object,
    text_encoders: object,
    unet: nn.Module,
    neuron_dropout: float | None = None,
    **arguments: object,
) -> AsymmetricNetwork:
    """New heads, or with `add_to` new heads beside a file's own.  ValueError says which option can't be.

    As in kohya's LoRA, an alpha of 0 is the rank.
    """
    # train_network.py passes the dropout under both names.
    arguments["dropout"] = neuron_dropout if arguments.get("dropout") is None else arguments["dropout"]
    options = Options.read(arguments)
    new = options.read_domains()
    if options.add_to:
        lora = AsymmetricLora.open(options.add_to)
        network = _like(lora, (*lora.domains, *new), unet, options)
        _refuse_other_size(network, network_dim, network_alpha)
        network.fill(lora.read())
        # An A that moves takes the old heads along, so there they must be free to follow it.
        network.freeze(not options.trains_a, () if options.trains_a else range(len(lora.domains)))
    else:
        rank = RANK if network_dim is None else network_dim
        alpha = ALPHA if network_alpha is None else network_alpha or rank
        layers = options.select(linear_layers(unet))
        network = AsymmetricNetwork(unet, new, rank, alpha, layers, options.drop)
        network.freeze(not options.trains_a)
    network.leave_idle_on_cpu(options.idle_heads == "cpu")
    network.set_multiplier(multiplier)
    return network


def create_network_from_weights(
    multiplier: float,
    file: str | os.PathLike[str],
    vae: object,
    text_encoders: object,
    unet: nn.Module,
    weights_sd: Mapping[str, Tensor] | None = None,
    for_inference: bool = False,
    domain: str | int | None = None,
    **arguments: object,
) -> tuple[AsymmetricNetwork, Mapping[str, Tensor]]:
    """A network with a file's layers, rank, alpha, heads and weights; and the weights once more, by name.

    For inference it has one head, ready for merge_to: `domain` (name, or number from 1), needed where there are more.
    """
    if weights_sd is not None:
        raise ValueError("heads are read from their file, with its domains; weights without a file are not")
    options = Options.read(arguments)
    if domain is not None and not for_inference:
        raise ValueError("domain chooses a head for inference; training has all heads of the file")
    if options.add_to:
        raise ValueError("add_to already makes the network from that file: drop --dim_from_weights")
    lora = AsymmetricLora.open(file)
    names = ", ".join(domain.name for domain in lora.domains)
    if not for_inference:
        network = _like(lora, lora.domains, unet, options)
        network.freeze(not options.trains_a)
        network.leave_idle_on_cpu(options.idle_heads == "cpu")
        if options.domains and [d.name for d in options.read_domains()] != [d.name for d in lora.domains]:
            raise ValueError(f"{lora.path.name} has the heads {names}: drop the option domains, or name the same")
        state = lora.read()
    else:
        if domain is None and len(lora.domains) > 1:
            raise ValueError(f"{lora.path.name} has several heads ({names}): extract the one to merge, or name it")
        head = lora.find(1 if domain is None else domain)
        network = _like(lora, lora.domains[head : head + 1], unet, options)
        state = {key.replace(".lora_up.", ".lora_ups.0."): tensor for key, tensor in lora.select(head + 1).items()}
    network.fill(state)
    network.set_multiplier(multiplier)
    return network, state


def _like(lora: AsymmetricLora, heads: Sequence[Domain], unet: nn.Module, options: Options) -> AsymmetricNetwork:
    if options.selects_layers():
        raise ValueError(f"the layers are those of {lora.path.name}: drop the options that select layers")
    return AsymmetricNetwork.like(lora, heads, unet, options.drop)


def _refuse_other_size(network: AsymmetricNetwork, rank: int | None, alpha: float | None) -> None:
    if rank not in (None, network.rank) or (alpha is not None and not network.has_alpha(alpha or network.rank)):
        raise ValueError(
            f"the file has rank {network.rank} and alpha {network.alpha:g}, the arguments say rank {rank} and alpha "
            f"{alpha}: pass --network_dim {network.rank} --network_alpha {network.alpha:g}"
        )
