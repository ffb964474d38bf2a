"""Domain heads on a MODEL: load FLUX with one, apply one, mix several."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import nodes
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

from ..makeanything.asymmetric_lora import AsymmetricLora
from ..makeanything.domains import Domain
from ..makeanything.foreign import finite
from .inputs import CATEGORY, DomainSocket, apply_input, domain_input, heads_input
from .model.catalog import choose, heads_files, open_heads, stamp
from .model.patching import apply_head
from .model.ways import AUTO

MIX_ROWS = 4


def _strength_input() -> io.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=-100.0,
        max=100.0,
        step=0.01,
        tooltip="How strongly the head changes the model: 1 as trained, 0 not at all.",
    )


def _model_input() -> io.Input:
    return io.Model.Input(
        "model",
        tooltip="A FLUX.1 model from any loader, LoRAs welcome, without a head: a second head is added to the first.",
    )


def _outputs() -> list[io.Output]:
    return [
        io.Model.Output(tooltip="The model that draws the domain's grids."),
        DomainSocket.Output(display_name="DOMAIN", tooltip="For Process Prompt, Empty Grid, ReCraft and Split Frames."),
    ]


class HeadNode(io.ComfyNode):
    """What the nodes that choose from a heads file share."""

    @classmethod
    def fingerprint_inputs(cls, heads: str = "", **_: Any) -> str:
        """The node runs again when the file is replaced.  The host leaves out inputs that are wired."""
        return stamp(heads)


class OneHeadNode(HeadNode):
    """What the nodes with one domain share."""

    @classmethod
    def validate_inputs(cls, heads: str, domain: str) -> bool:
        """Names both inputs, so that execute explains a value that is no longer offered, instead of the host's list
        check."""
        return True


class LoadFluxWithDomain(OneHeadNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = heads_files()
        stock = nodes.UNETLoader.INPUT_TYPES()["required"]
        return io.Schema(
            node_id="MakeAnythingLoadFluxWithDomain",
            display_name="Load FLUX with Domain",
            category=CATEGORY,
            description="Loads FLUX.1-dev and gives it the head of one domain.",
            search_aliases=["makeanything", "asymmetric lora", "making of", "flux loader"],
            inputs=[
                io.Combo.Input(
                    "unet_name", options=stock["unet_name"][0], tooltip="A FLUX.1 model, such as FLUX.1-dev."
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=stock["weight_dtype"][0],
                    tooltip="How the weights are kept in memory, as in Load Diffusion Model; fp8 takes half of bf16.",
                ),
                heads_input(files),
                domain_input(files),
                _strength_input(),
                apply_input("head"),
            ],
            outputs=_outputs(),
            enable_expand=True,
        )

    @classmethod
    def execute(
        cls, unet_name: str, weight_dtype: str, heads: str, domain: str, strength: float, apply: str = AUTO
    ) -> io.NodeOutput:
        # So that a mistake shows before a model of many GB is loaded.
        choose(open_heads(heads), domain)
        strength = finite(strength, "strength")
        # As two nodes, so that the host keeps the loaded model when only the head changes.
        graph = GraphBuilder()
        model = graph.node("UNETLoader", unet_name=unet_name, weight_dtype=weight_dtype).out(0)
        chosen = {"heads": heads, "domain": domain, "strength": strength, "apply": apply}
        head = graph.node("MakeAnythingApplyDomainHead", model=model, **chosen)
        return io.NodeOutput(head.out(0), head.out(1), expand=graph.finalize())


class ApplyDomainHead(OneHeadNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = heads_files()
        return io.Schema(
            node_id="MakeAnythingApplyDomainHead",
            display_name="Apply Domain Head",
            category=CATEGORY,
            description="Gives a FLUX.1 model from any loader the head of one domain.",
            search_aliases=["makeanything", "asymmetric lora", "making of"],
            inputs=[_model_input(), heads_input(files), domain_input(files), _strength_input(), apply_input("head")],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, model: ModelPatcher, heads: str, domain: str, strength: float, apply: str = AUTO) -> io.NodeOutput:
        lora = open_heads(heads)
        chosen = choose(lora, domain)
        return io.NodeOutput(apply_head(model, lora, domain, strength, apply), chosen)


class MixDomainHeads(HeadNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = heads_files()
        rows: list[io.Input] = []
        for row in range(1, MIX_ROWS + 1):
            rows.append(domain_input(files, row))
            rows.append(
                io.Float.Input(
                    f"weight_{row}",
                    display_name=f"weight {row}",
                    default=0.5 if row <= 2 else 0.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="This domain's share of the mix; 0 leaves it out. Weights are added as they are.",
                )
            )
        return io.Schema(
            node_id="MakeAnythingMixDomainHeads",
            display_name="Mix Domain Heads",
            category=CATEGORY,
            description="Gives a FLUX.1 model a weighted mix of domains, for a making-of between two of them.",
            search_aliases=["makeanything", "asymmetric lora", "blend domains", "merge heads"],
            inputs=[_model_input(), heads_input(files), *rows, _strength_input(), apply_input("head")],
            outputs=_outputs(),
        )

    @classmethod
    def validate_inputs(cls, heads: str, domain_1: str, domain_2: str, domain_3: str, domain_4: str) -> bool:
        """As in the other head nodes, for all rows."""
        return True

    @classmethod
    def execute(cls, model: ModelPatcher, heads: str, strength: float, apply: str = AUTO, **rows: Any) -> io.NodeOutput:
        lora = open_heads(heads)
        mix: dict[str, float] = defaultdict(float)
        for row in range(1, MIX_ROWS + 1):
            if weight := finite(rows[f"weight_{row}"], f"weight_{row}"):
                mix[choose(lora, rows[f"domain_{row}"]).name] += weight
        domain = _main_domain(lora, mix)
        return io.NodeOutput(apply_head(model, lora, mix, strength, apply), domain)


def _main_domain(lora: AsymmetricLora, mix: dict[str, float]) -> Domain:
    """The domain of the largest weight; ValueError when the domains are drawn in different grids."""
    weights = lora.weights(mix)
    domain = lora.domains[max(weights, key=lambda head: weights[head])]
    for other in (lora.domains[head] for head in weights):
        if other.layout != domain.layout:
            raise ValueError(
                f"{domain.name} is drawn in a {domain.layout} grid and {other.name} in a {other.layout} grid, so they "
                "can't be mixed; choose domains with the same number of frames."
            )
    return domain


NODES: list[type[io.ComfyNode]] = [LoadFluxWithDomain, ApplyDomainHead, MixDomainHeads]
