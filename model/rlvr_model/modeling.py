"""The hybrid model as transformers knows models: a base model, and a causal language model on it.

Everything between the last block and the head (collapse of streams, final norm) is inside the base model, because trl
computes log-probabilities from `last_hidden_state` and the head alone. A module with weights of its own kind has a
method `reset` that draws them through `transformers.initialization`, which leaves loaded ones alone; it is called
after those of its children.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from rlvr_kernels.backend import widened
from rlvr_kernels.linear_cross_entropy import linear_cross_entropy
from rlvr_model.block import Block
from rlvr_model.cache import prepare_cache
from rlvr_model.compatibility import check, check_implementation
from rlvr_model.configuration import HybridConfig
from rlvr_model.context import LayerContext
from rlvr_model.engram import TokenFold
from rlvr_model.hyper_connections import StreamCollapse, open_streams
from rlvr_model.layers import RMSNorm, RotaryEmbedding
from rlvr_model.masks import (
    attention_masks,
    check_domains,
    check_inputs,
    document_ids_of,
    document_positions,
    document_runs,
    positions,
)
from rlvr_model.multi_token import IGNORED, MultiTokenPrediction


@dataclass
class HybridModelOutput(BaseModelOutputWithPast):  # type: ignore[misc]
    """The base model's output."""

    context: LayerContext | None = None
    """What the layers were told, and what they add to the training loss."""


@dataclass
class HybridCausalLMOutput(CausalLMOutputWithPast):  # type: ignore[misc]
    """The language model's output."""

    losses: dict[str, Tensor] | None = None
    """What is in the loss besides the cross-entropy, by name: already weighted, detached. None in evaluation."""


class HybridPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers asks of every model: names, abilities and how weights begin."""

    config_class = HybridConfig
    config: HybridConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _skip_keys_device_placement = ["cache", "past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _is_stateful = True
    _can_compile_fullgraph = False
    _can_record_outputs = {"hidden_states": Block}  # noqa: RUF012
    _keep_in_fp32_modules = [r".*\.indexer", r".*\.engram"]  # noqa: RUF012 # which keeps them out of four bits, too
    _keep_in_fp32_modules_strict = ["e_score_correction_bias", "A_log", "dt_bias", "connections", "collapse"]  # noqa: RUF012

    def set_attn_implementation(self, *arguments: Any, **named: Any) -> None:
        """As in transformers. Raises ValueError where the implementation cannot compute what the config asks for."""
        before = self.config._attn_implementation
        super().set_attn_implementation(*arguments, **named)
        try:
            check_implementation(self.config)
        except ValueError:
            super().set_attn_implementation(before)
            raise

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> nn.Embedding:
        """As in transformers; a table of folded tokens grows or shrinks along."""
        embeddings: nn.Embedding = super().resize_token_embeddings(*arguments, **named)
        for fold in [module for module in self.modules() if isinstance(module, TokenFold)]:
            fold.resize(embeddings.num_embeddings)
        return embeddings

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, *arguments: Any, **named: Any
    ) -> None:
        """As in transformers. Raises ValueError for the reentrant kind, which loses what layers add to the loss."""
        if (activation_checkpointing_kwargs or {}).get("use_reentrant"):
            raise ValueError(
                "use_reentrant=True and this model clash: the losses of routers and indexers would get no gradient; "
                "set use_reentrant to False"
            )
        super().activation_checkpointing_enable(activation_checkpointing_kwargs, *arguments, **named)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        reset = getattr(module, "reset", None)
        if callable(reset):
            reset()


class HybridModel(HybridPreTrainedModel):
    """The blocks between the embedding and the head; (B, T) token ids to (B, T, d) normalised hidden states."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        check(config)  # settings may have been changed since the config was made
        check_implementation(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.num_hidden_layers))
        self.resid_lambdas: nn.Parameter | None = None
        self.x0_lambdas: nn.Parameter | None = None
        if config.residual_scalars:
            self.resid_lambdas = nn.Parameter(torch.ones(config.num_hidden_layers))
            self.x0_lambdas = nn.Parameter(torch.zeros(config.num_hidden_layers))
        self.collapse = StreamCollapse(config) if config.mhc_enabled else None
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_emb = RotaryEmbedding(config)
        self.gradient_checkpointing = False
        self.post_init()

    def reset(self) -> None:
        """Start with a residual that is a plain sum."""
        if self.resid_lambdas is not None and self.x0_lambdas is not None:
            init.ones_(self.resid_lambdas)
            init.zeros_(self.x0_lambdas)

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    @deprecate_kwarg("past_key_values", "6.0.0", new_name="cache")  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        document_ids: Tensor | None = None,
        domain_ids: Tensor | None = None,
        **_: Any,
    ) -> HybridModelOutput:
        """Hidden states of tokens (B, T).

        `attention_mask` (B, past + T) is 1 at real tokens, padding at the ends of a row and not inside of it. Packed
        rows are told by `document_ids` (B, T) or by `position_ids` (B, T) that restart, without a cache. `domain_ids`
        (B,) choose Engram tables. Raises ValueError for inputs that do not go together.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("input_ids and inputs_embeds: give one of them and not both")
        hidden_states = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if document_ids is None and position_ids is not None and attention_mask is None and cache is None:
            document_ids = document_ids_of(position_ids.expand(hidden_states.shape[:2]))
        if use_cache and cache is None and document_ids is None and not (self.training and torch.is_grad_enabled()):
            cache = DynamicCache(config=self.config)
        context = self.context(hidden_states, attention_mask, position_ids, document_ids, cache)
        if domain_ids is not None:
            check_domains(domain_ids, len(hidden_states), self.config.engram_domains)
        context = replace(context, input_ids=input_ids, domain_ids=domain_ids)
        hidden_states = self.run_layers(hidden_states, context)
        return HybridModelOutput(last_hidden_state=self.norm(hidden_states), cache=cache, context=context)

    def context(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        document_ids: Tensor | None,
        cache: Cache | None,
    ) -> LayerContext:
        """Positions, documents, padding and masks for a pass over embeddings (B, T, d)."""
        batch, new = hidden_states.shape[:2]
        past = 0
        if cache is not None:
            prepare_cache(cache, self.config)
            past = cache.get_seq_length()
        check_inputs(attention_mask, document_ids, (batch, new), past, cache)
        key_mask = None if attention_mask is None else attention_mask.bool()
        if document_ids is not None:
            document_ids = document_runs(document_ids, key_mask)
            position_ids = document_positions(document_ids)
        elif position_ids is None:
            position_ids = positions(batch, new, past, key_mask, hidden_states.device)
        position_ids = position_ids.expand(batch, new)
        cos, sin = self.rotary_emb(position_ids, hidden_states.dtype)
        return LayerContext(
            position_ids=position_ids,
            cos=cos,
            sin=sin,
            document_ids=document_ids,
            key_mask=key_mask,
            past_key_values=cache,
            past_length=past,
            masks=attention_masks(self.config, hidden_states, key_mask, position_ids, document_ids, cache),
            dsa_stage=self.config.dsa_stage,
        )

    def run_layers(self, hidden_states: Tensor, context: LayerContext) -> Tensor:
        """(B, T, d) after the last block, before the final norm."""
        embedded = hidden_states
        if self.collapse is not None:
            hidden_states = open_streams(hidden_states, self.config.mhc_num_branches)
        for index, block in enumerate(self.layers):
            if self.resid_lambdas is not None and self.x0_lambdas is not None:
                hidden_states = self.resid_lambdas[index] * hidden_states + self.x0_lambdas[index] * embedded
            hidden_states = block(hidden_states, context=context)
        for router, load in context.router_loads.items():
            router.load = load if router.load is None else router.load + load
        return hidden_states if self.collapse is None else self.collapse(hidden_states)


class HybridForCausalLM(HybridPreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """The base model and its head: (B, T) token ids to (B, T, V) logits, capped by `final_logit_softcapping`."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self.model = HybridModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.mtp = MultiTokenPrediction(config) if config.mtp_enabled else None
        self.post_init()

    @can_return_tuple  # type: ignore[untyped-decorator]
    @deprecate_kwarg("past_key_values", "6.0.0", new_name="cache")  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        domain_ids: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        skip_logits: bool = False,
        **kwargs: Any,
    ) -> HybridCausalLMOutput:
        """Logits of the kept positions and, with `labels` (B, T), the loss of predicting label t + 1 at t.

        The loss of a model in training has what layers and further heads add to it; in evaluation it is the
        cross-entropy alone. `skip_logits` computes the loss without ever holding (B, T, V), and returns no logits. See
        `HybridModel.forward` for the other inputs.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            domain_ids=domain_ids,
            **kwargs,
        )
        hidden_states, count = outputs.last_hidden_state, kwargs.get("num_items_in_batch")
        logits: Tensor | None = None
        loss: Tensor | None = None
        losses: dict[str, Tensor] = {}
        if skip_logits and labels is not None:
            loss = self.next_token_loss(hidden_states, labels, count)
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.logits(hidden_states[:, kept])
            if labels is not None:
                loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        if loss is not None and labels is not None and self.training:
            losses = self.additional_losses(hidden_states, input_ids, labels, outputs.context, count)
            loss = torch.stack([loss, *losses.values()]).sum()
        return HybridCausalLMOutput(
            loss=loss,
            logits=logits,
            cache=outputs.cache,
            hidden_states=outputs.hidden_states,
            losses={name: value.detach() for name, value in losses.items()} or None,
        )

    def additional_losses(
        self,
        hidden_states: Tensor,
        input_ids: Tensor | None,
        labels: Tensor,
        context: LayerContext,
        count: Tensor | int | None,
    ) -> dict[str, Tensor]:
        """By name: scalars, already weighted, of the layers, each summed over them, and of further heads.

        What layers add are means over the tokens of this call; of a batch in parts, `count` labels in all, this call's
        share counts.
        """
        share = 1.0 if count is None else (labels[:, 1:] != IGNORED).sum() / count
        here = hidden_states.device  # of a model on several devices each layer's loss is where the layer is
        losses = {
            name: share * torch.stack([value.to(here) for value in values]).sum()
            for name, values in context.losses.items()
        }
        if self.mtp is not None:
            if input_ids is None:
                raise ValueError("mtp_enabled and inputs_embeds: the head reads the tokens that follow; give input_ids")
            losses["mtp"] = self.mtp.loss(
                hidden_states,
                input_ids,
                labels,
                context,
                self.model.embed_tokens,
                lambda states, ahead: self.next_token_loss(states, ahead, count),
            )
        return losses

    def logits(self, hidden_states: Tensor) -> Tensor:
        """(..., V) logits of normalised hidden states (..., d), in at least float32."""
        logits = widened(self.lm_head(hidden_states))
        cap = self.config.final_logit_softcapping
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def next_token_loss(self, hidden_states: Tensor, labels: Tensor, count: Tensor | int | None = None) -> Tensor:
        """The cross-entropy of predicting label t + 1 at t, a chunk of logits at a time.

        A mean over the labels that are not -100, or the sum over `count`.
        """
        states, targets = hidden_states[:, :-1], labels[:, 1:].to(hidden_states.device)
        reduction = "mean" if count is None else "sum"
        if type(self.lm_head) is nn.Linear and not hasattr(self.lm_head, "_hf_hook"):
            cap = self.config.final_logit_softcapping
            loss = linear_cross_entropy(states, self.lm_head.weight, targets, softcap=cap, reduction=reduction)
        else:  # an adapter on it, or weights that come when it is called
            logits = self.logits(states).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, targets.flatten(), reduction=reduction)
        return loss if count is None else loss / count
