"""The zoo: named architectures and what the probe must find of each, or why it must refuse it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.zoo.shrink import VOCAB, WIDTH
from tpe_core.models.head import PostKind, Task

__all__ = ["REFUSED", "SUPPORTED", "Case"]


@dataclass(frozen=True)
class Case:
    """A model type, its task, and the answer; `cls` where the auto-maps do not name the class."""

    model_type: str
    task: Task = "causal"
    kind: PostKind = "identity"
    scale: float = 1.0
    cap: float | None = None
    bias: bool = False  # the head module's own
    tied: bool = False
    hidden: int = WIDTH  # width of the head's input
    rows: int = VOCAB
    masked: int = 0
    fixed: dict[str, Any] = field(default_factory=dict)
    cls: str = ""
    name: str = ""
    reason: str = ""  # part of the refusal

    @property
    def id(self) -> str:
        """Its name in the test's report."""
        return f"{self.task}-{self.name or self.model_type}"


def _several(model_types: str, **answer: Any) -> list[Case]:
    return [Case(model_type, **answer) for model_type in model_types.split()]


SUPPORTED: list[Case] = [
    # nothing after the head: rotary, learned and no positions, mixtures of experts, state spaces, recurrences
    *_several("llama mistral mixtral qwen2 qwen3 phi3 olmo olmo2 stablelm deepseek_v3 gpt_neox persimmon"),
    *_several("rwkv jamba helium glm4_moe mamba2"),
    *_several("gpt2 gpt_neo gpt_bigcode bloom falcon gemma mamba mpt xglm biogpt zamba2 openai-gpt smollm3", tied=True),
    Case("llama", name="llama-tied", tied=True, fixed={"tie_word_embeddings": True}),
    Case("gpt2", name="gpt2-untied", fixed={"tie_word_embeddings": False}),
    # a bias in the head
    *_several("gptj phi codegen", bias=True),
    Case("git", bias=True),
    *_several("ctrl xlnet", bias=True, tied=True),
    # h is not what the last norm gave: projected, scaled
    Case("opt", tied=True),
    Case("opt", name="opt-projected", tied=True, hidden=16, fixed={"word_embed_proj_dim": 16}),
    Case("minicpm3", tied=True, fixed={"dim_model_base": 16}),
    Case("inkling_text", fixed={"unpadded_vocab_size": None, "logits_mup_width_multiplier": 3.0}),
    # logits times or divided by a constant
    *_several("cohere cohere2", kind="scale", scale=0.3, tied=True, fixed={"logit_scale": 0.3}),
    Case("falcon_h1", kind="scale", scale=0.7, fixed={"lm_head_multiplier": 0.7}),
    *_several("granite granitemoe", kind="scale", scale=1 / 7, fixed={"logits_scaling": 7.0}),
    Case("granitemoehybrid", kind="scale", scale=0.2, fixed={"logits_scaling": 5.0}),
    Case("hyperclovax", kind="scale", scale=7.0, fixed={"logits_scaling": 7.0}),
    Case("granite", name="granite-unscaled", fixed={"logits_scaling": 1.0}),
    # soft caps
    *_several("gemma2 vaultgemma gemma3n_text", kind="softcap", cap=30.0, tied=True),
    Case("gemma2", name="gemma2-tight", kind="softcap", cap=7.5, tied=True, fixed={"final_logit_softcapping": 7.5}),
    Case("gemma3_text", tied=True),
    Case(
        "gemma3_text",
        name="gemma3-capped",
        kind="softcap",
        cap=20.0,
        tied=True,
        fixed={"final_logit_softcapping": 20.0},
    ),
    Case("gemma4_text", kind="softcap", cap=12.0, tied=True, fixed={"final_logit_softcapping": 12.0}),
    Case("recurrent_gemma", kind="softcap", cap=9.0, tied=True, fixed={"logits_soft_cap": 9.0}),
    Case("nanochat", kind="softcap", cap=15.0),
    Case("xlstm", kind="softcap", cap=11.0, fixed={"output_logit_soft_cap": 11.0}),
    Case("t5gemma", "seq2seq", kind="softcap", cap=30.0, tied=True),
    # a bias per token added after the head
    *_several("bart mbart marian pegasus blenderbot led plbart", task="seq2seq", kind="bias", tied=True),
    Case("esm", "masked", kind="bias", tied=True),
    # rows that are masked, rows that are cut off
    Case("chameleon", kind="mask", masked=5, cls="ChameleonForConditionalGeneration"),
    Case("inkling_text", name="inkling-sliced", kind="slice", rows=VOCAB - 6, fixed={"unpadded_vocab_size": VOCAB - 6}),
    # masked language models, with the transform before the head
    *_several("bert roberta albert distilbert electra deberta deberta-v2", task="masked", bias=True, tied=True),
    *_several("modernbert mpnet xlm-roberta convbert fnet longformer xlm", task="masked", bias=True, tied=True),
    # encoder-decoder models
    *_several("t5 mt5 umt5 longt5 m2m_100", task="seq2seq", tied=True),
    Case("t5", "seq2seq", name="t5-unscaled", tied=True, fixed={"tie_word_embeddings": False}),
    Case("switch_transformers", "seq2seq", name="switch-untied", fixed={"tie_word_embeddings": False}),
    # heads that are not where the model says
    Case("mobilebert", "masked", bias=True, tied=True, hidden=2 * WIDTH, fixed={"hidden_size": 2 * WIDTH}),
    Case("fsmt", "seq2seq", tied=True, fixed={"tie_word_embeddings": True}),
    Case("fsmt", "seq2seq", name="fsmt-untied", fixed={"tie_word_embeddings": False}),
    Case("prophetnet", "seq2seq", tied=True),
    Case("prophetnet", tied=True),
]

REFUSED: list[Case] = [
    Case("deberta", "masked", name="deberta-new", fixed={"legacy": False}, reason="names a 32 x 32 transform"),
    Case("deberta-v2", "masked", name="deberta-v2-new", fixed={"legacy": False}, reason="names a 32 x 32 transform"),
    Case("perceiver", "masked", reason="names no output embedding"),
    Case("xlm", fixed={"asm": True, "asm_cutoffs": [40, 80]}, reason="adaptive softmax"),
    Case("flaubert", "masked", fixed={"asm": True, "asm_cutoffs": [40, 80]}, reason="adaptive softmax"),
    Case("musicgen", reason="4 output heads"),
    Case("gemma4_unified_assistant", reason="drafts for another model"),
    Case(
        "gemma4_unified_assistant",
        name="gemma4-ordered",
        fixed={"use_ordered_embeddings": True, "num_centroids": 4, "centroid_intermediate_top_k": 2},
        reason="scores only the tokens of the best few clusters",
    ),
    Case("pi0", cls="PI0ForConditionalGeneration", reason="names no output embedding"),
    Case("diffusion_gemma", cls="DiffusionGemmaForBlockDiffusion", reason="denoises whole blocks"),
    Case("voxtral_realtime", "seq2seq", reason="does not run on token ids alone"),
]
