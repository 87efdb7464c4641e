"""The report card of an output head in words: the same lines on a terminal and in the inspector.

Made from the document that `tpe check --json` prints, so that it needs no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tpe_core.progress import size_text

__all__ = ["card_lines"]

POSTS = {
    "identity": "the logits are W h + b",
    "bias": "a fixed bias per token is added",
    "mask": "some tokens are never predicted",
    "slice": "the last rows are cut off",
    "opaque": "something that is not modelled",
}


def card_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(label, text) of every fact on the card."""
    more = ((card["padding_rows"], "padding"), (card["masked_rows"], "never predicted"))
    rows = ", ".join([f"{card['vocab_rows']:,} in use", *(f"{count:,} {name}" for count, name in more if count)])
    extras = [text for key, text in (("tied", "tied to the input embedding"), ("bias", "with a bias")) if card[key]]
    error, memory = card["max_abs_error"], card.get("memory")
    adapter = card.get("adapter")
    return [
        ("class", card["class"]),
        *(() if adapter is None else (("adapter", _adapter_text(adapter)),)),
        ("task", card["task"]),
        ("head", ", ".join([card["head"], *extras])),
        ("rows", rows),
        ("hidden size", f"{card['hidden_size']:,}"),
        ("after the head", _post_text(**card["post"])),
        *((("quantisation", _quantisation_text(card["quantisation"])),) if "quantisation" in card else ()),
        ("dtype, device", f"{card['dtype']}, {card['device']}"),
        *((("GGUF file", _gguf_text(card["gguf"])),) if "gguf" in card else ()),
        *(() if memory is None else (("memory", _memory_text(memory)),)),
        (
            "largest error",
            "not measured"
            if error is None
            else f"{error:.3g} in the logits, against the model's own{_rounding_text(card.get('head_rounding'))}",
        ),
        *_precision_lines(card),
        ("supported", "yes" if card["supported"] else f"no: {card['reason']}"),
    ]


def _post_text(kind: str, scale: float, cap: float | None) -> str:
    """What happens after a head: kind, constants, and what they mean."""
    factor = "" if scale == 1 else f"{scale:.6g}"
    z = f"{factor} (W h + b)".lstrip()
    if cap is not None:
        named = f"{kind}, scale {factor}, cap" if factor else f"{kind}, cap"
        return f"{named} {cap:.6g}: the logits are {cap:.6g} tanh({z} / {cap:.6g})"
    if factor:
        return f"{kind} {factor}: the logits are {z}"
    return f"{kind}: {POSTS[kind]}"


def _gguf_text(file: Mapping[str, Any]) -> str:
    """Name, quantisation with the types of most values, size on disk and in memory, hash."""
    total = sum(file["types"].values())
    shares = [f"{name} {count / total:.0%}" for name, count in file["types"].items() if count / total >= 0.005]
    kinds = f" ({', '.join(shares)})" if len(shares) > 1 else ""
    return (
        f"{file['name']}, {file['architecture']}, {file['quantization']}{kinds}, {size_text(file['size'])}; "
        f"dequantised it takes {size_text(file['dequantized_bytes'])}; sha256 {file['sha256'][:12]}"
    )


def _adapter_text(adapter: Mapping[str, Any]) -> str:
    """An adapter's name and kind, what it was trained on and where its changes are."""
    base = f", trained on {adapter['base']}" if adapter["base"] else ""
    layers = f", {adapter['layers']} layers" if adapter["layers"] else ""
    where = "merged into the weights" if adapter["merged"] else "beside the weights"
    return f"{adapter['name']}: {adapter['kind']}{layers}, {where}{base}"


def _quantisation_text(told: Mapping[str, Any]) -> str:
    """The method, bits of a weight and of a layer's input where the config tells them, and whether it saves memory."""
    bits, activation_bits = told["bits"], told["activation_bits"]
    return str(told["method"]) + "".join(
        (
            "" if bits is None else f", {bits:g} bits",
            "" if activation_bits is None else f", activations in {activation_bits:g} bits",
            ", unpacked in memory" if told["unpacked"] else "",
        )
    )


def _rounding_text(rounding: Mapping[str, float] | None) -> str:
    """What a head that rounds its input costs."""
    return "" if rounding is None else f": the head rounds its input (KL {rounding['kl']:.2g} nats)"


def _precision_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What it costs that the logits are computed in the model's dtype, and what carries it; the command if unknown."""
    told = card.get("precision")
    if told is None:
        narrow = card["supported"] and card["dtype"] in ("bfloat16", "float16")
        return [("head precision", "not measured: `tpe check --precision` does that")] if narrow else []
    if not told["positions"]:
        return [("head precision", f"the logits are computed in {told['dtype']}: nothing is lost to rounding")]
    lines = [
        (
            "head precision",
            f"logits in {told['dtype']} against the float32 head: KL {told['kl']:.3g} nats (largest "
            f"{told['kl_max']:.2g}); {told['positions']:,} positions of {told['text']}",
        ),
        ("", f"the most probable token is another at {told['top1_flips']:.1%}, and tied at {told['tied_tops']:.1%}"),
        ("", f"float32 logits rounded to {told['dtype']}: KL {told['kl_rounding']:.3g}"),
    ]
    saved = [f"{each['dim']} {each['saved']:.0%}" for each in told["dimensions"]]
    if saved:
        together = f"; all of these {told['saved_together']:.0%}"
        lines.append(("  dimensions", f"of that KL, kept in float32 they save: {', '.join(saved)}{together}"))
    if told["tokens"]:
        lines.append(("  tokens", "of the KL: " + "  ".join(f"{t['token']} {t['share']:.1%}" for t in told["tokens"])))
    return lines


def _memory_text(memory: Mapping[str, int]) -> str:
    """Weights, the head's float32 copy, detection, and what was free."""
    return (
        f"needs {size_text(memory['needed_bytes'])}, {size_text(memory['available_bytes'])} free: "
        f"weights {size_text(memory['body_bytes'])} ({memory['parameters']:,} parameters), "
        f"float32 head {size_text(memory['head_float32_bytes'])}, detection {size_text(memory['detection_bytes'])}"
    )
