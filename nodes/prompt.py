"""The Process Prompt node: a subject in the form that a domain was trained with."""

from __future__ import annotations

from comfy_api.latest import io

from ..makeanything.domains import Domain
from ..makeanything.foreign import need
from .inputs import CATEGORY, DomainSocket


class ProcessPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MakeAnythingProcessPrompt",
            display_name="Process Prompt",
            category=CATEGORY,
            description="Writes the prompt in the form of the released datasets, for CLIP Text Encode.",
            search_aliases=["makeanything", "making of prompt"],
            inputs=[
                DomainSocket.Input("domain", tooltip="The domain, from the node that loads its head."),
                io.String.Input(
                    "subject",
                    multiline=True,
                    placeholder="1 girl with a red scarf",
                    tooltip="What is made, such as: 1 girl with a red scarf.",
                ),
                io.String.Input(
                    "steps",
                    multiline=True,
                    optional=True,
                    tooltip="What happens in each frame, one line per frame, first frame first; empty lines are "
                    "skipped.",
                ),
            ],
            outputs=[io.String.Output(display_name="prompt", tooltip="For CLIP Text Encode.")],
        )

    @classmethod
    def execute(cls, domain: Domain, subject: str, steps: str = "") -> io.NodeOutput:
        need(domain, Domain, "domain")
        return io.NodeOutput(domain.write_prompt(subject, steps.rstrip().splitlines()))


NODES: list[type[io.ComfyNode]] = [ProcessPrompt]
