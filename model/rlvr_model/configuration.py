"""Every setting of the hybrid model, by the name that it has in config files and checkpoints.

The config stores what was decided, not what it was derived from: the window of short attention layers is an absolute
number, which a longer context at inference does not change. What two settings mean together is checked in
`compatibility.py`, before any weight exists.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from rlvr_model.compatibility import check
from rlvr_model.pattern import expand_pattern

WINDOW_MULTIPLE = 128
"""Short windows are rounded up to this many tokens, as attention kernels like them."""

CACHED_STATES = 4
"""Room for states in the cache of a layer: Mamba-3 has 4, Engram 2 beside the keys, a recurrent tail 1."""


class HybridConfig(PreTrainedConfig):  # type: ignore[misc]
    """Shape and behaviour of `HybridForCausalLM`.

    Raises ValueError where a value is out of range or two settings clash; the sentence names them and the way out.
    """

    model_type = "rlvr_hybrid"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012
    auto_map = {}  # type: ignore[var-annotated] # noqa: RUF012

    # --- backbone
    vocab_size: int = 65536
    hidden_size: int = 1024
    num_hidden_layers: int = 16
    block_pattern: str = "A"
    """Letters A, M, E, R, tiled over the layers (`pattern.py`)."""
    num_attention_heads: int = 16
    num_key_value_heads: int = 4
    head_dim: int = 64
    intermediate_size: int = 2816
    """Width of the SwiGLU feed-forward in A, M and R layers; 0: they have none, as in patterns with E."""
    max_position_embeddings: int = 4096
    rope_parameters: dict[str, Any] | None = None
    """As in transformers: `rope_type` `default` or `yarn`, `rope_theta`, `factor`, ..."""
    rope_theta: float = 100000.0
    nope_layers: list[int] | None = None
    """RNoPE (arXiv 2501.18795): long-window attention layers without a position encoding."""
    window_pattern: str = "SSSL"
    """S (short window) and L (whole context), tiled over the attention layers; the last one is always L."""
    short_window_frac: float = 0.5
    """Share of `max_position_embeddings` that an S layer sees where `sliding_window` is not given."""
    sliding_window: int | None = None
    """Tokens that an S layer sees, its own included."""
    qk_norm: bool = True
    """RMS-normalise queries and keys after the rotation, without a weight."""
    qk_norm_gain: float = 1.0
    """Factor on normalised queries and on keys; logits are at most gain^2 sqrt(head_dim)."""
    attn_logit_softcapping: float | None = None
    """c of c tanh(logit / c) on attention logits; not with sdpa. Cannot bite where `qk_norm` bounds them."""
    final_logit_softcapping: float | None = 30.0
    """The same on the language model's logits; trl reads this name."""
    residual_scalars: bool = True
    """Learned scalars per layer: x <- resid_lambda x + x0_lambda x0, from (1, 0)."""
    tie_word_embeddings: bool = True
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    # --- experts
    moe_layer_frequency: int = 0
    """Every n-th feed-forward of A, M and R layers is a mixture of experts; 0: none. E layers always are one."""
    num_experts: int = 64
    num_experts_per_tok: int = 4
    num_shared_experts: int = 1
    moe_intermediate_size: int = 704
    """Width of one expert, routed or shared."""
    routed_scaling_factor: float = 1.0
    z_loss_weight: float = 1e-3
    """Weight of mean(logsumexp(router logits)^2) in the training loss."""
    router_bias_update_rate: float = 1e-3
    """Step of the selection bias towards the mean load (arXiv 2408.15664)."""
    experts_layout: str = "stacked"
    """`stacked`: (E, ...) tensors and grouped matrix products; `linear`: one nn.Linear each, for NF4 and LoRA.
    `unstack_experts` makes the latter of the former."""
    moe_dispatch: str = "auto"
    """How stacked experts are computed: `auto`, `padded`, `grouped` or `block_sparse`."""

    # --- Mamba-3 (arXiv 2603.15569)
    mamba_d_state: int = 128
    mamba_expand: int = 2
    mamba_headdim: int = 64
    mamba_num_heads: int | None = None
    """The number of heads that a config from elsewhere names; refused where the widths give another."""
    mamba_ngroups: int = 1
    mamba_complex_rope: bool = True
    """False means the same as `mamba_rope_fraction` 0: the state does not rotate."""
    mamba_rope_fraction: float = 0.5
    mamba_dt_min: float = 1e-3
    mamba_dt_max: float = 0.1
    mamba_dt_init_floor: float = 1e-4
    mamba_A_floor: float = 1e-4
    mamba_A_act: str = "softplus"
    """`softplus` (article) or `heavy_tail`."""
    mamba_is_outproj_norm: bool = False
    mamba_is_mimo: bool = False
    mamba_mimo_rank: int = 4
    mamba_chunk_size: int = 64
    mamba_backend: str = "auto"
    """`auto`, `reference`, `triton`, or `mamba_ssm`: the authors' kernels, where installed."""

    # --- recurrent tail: a non-linear RNN with matrix-valued state
    recurrent_num_heads: int = 16
    recurrent_key_dim: int = 64
    recurrent_value_dim: int = 16

    # --- sparse attention (DeepSeek-V3.2; blocks: arXiv 2502.11089)
    dsa_enabled: bool = False
    dsa_start_layer: int = 7
    """Attention layers from this index on are sparse."""
    dsa_variant: str = "token"
    """`token`: an indexer picks tokens; `block`: pooled keys pick blocks."""
    dsa_stage: str = "sparse"
    """`warmup`: dense attention, only the indexer learns; `sparse`: attention to what was selected."""
    dsa_top_k_ratio: float = 0.5
    """Share of a query's visible tokens that is kept; depends on the query's position alone."""
    dsa_top_k: int | None = None
    """Keep this many instead of a share."""
    dsa_local_window: int = 128
    """How many of the last tokens are always kept."""
    dsa_indexer_heads: int = 16
    dsa_indexer_dim: int = 32
    dsa_indexer_rope_dim: int = 16
    dsa_kl_weight: float = 1.0
    """Weight of KL(attention || indexer) in the loss; it trains the indexer and nothing else."""
    dsa_block_size: int = 256
    """Tokens of a selection block, counted from the document's start."""
    dsa_query_block: int = 256
    """Queries that share one visit of keys in a kernel; changes no result."""
    dsa_key_block: int = 1024
    """Keys that a kernel loads at once; changes no result."""
    dsa_top_n: int = 8
    """Blocks that a query attends to, forced ones included."""

    # --- Engram (arXiv 2601.07372): hashed n-gram memory beside attention layers
    engram_enabled: bool = False
    engram_layers: list[int] | None = None
    """Layers with an Engram branch; None is every attention layer."""
    engram_ngram_orders: str = "2,3,4"
    engram_heads: int = 8
    """Hash functions per order."""
    engram_width: int = 512
    """Embedding width per order, over its heads."""
    engram_table_size: int = 50000
    """Rows per table; the tables take the next primes, each its own."""
    engram_kernel_size: int = 4
    engram_domains: int = 1
    """Separate sets of tables, chosen per row by `domain_ids`."""
    engram_lowercase: bool = False
    """Fold tokens that differ in case only; needs the token map, see `engram.py`."""
    engram_seed: int = 0
    engram_offload: bool = False
    """Tables stay in host memory; rows are fetched as tokens arrive."""
    engram_tokenizer_hash: str | None = None
    """Hash of the tokenizer whose ids address the tables; with another tokenizer they mean nothing."""

    # --- manifold-constrained hyper-connections (arXiv 2512.24880)
    mhc_enabled: bool = False
    mhc_num_branches: int = 4
    mhc_sinkhorn_iters: int = 5
    mhc_temperature: float = 1.0
    mhc_epsilon: float = 1e-6
    mhc_blend_alpha: float = 1.0
    """Share of the mixing matrix: 1 takes it as it is, 0 the identity, which is a plain residual for each stream."""

    # --- multi-token prediction (arXiv 2412.19437)
    mtp_enabled: bool = False
    mtp_depth: int = 1
    mtp_lambda: float = 0.3

    use_cache: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    pad_token_id: int | None = 2

    def __post_init__(self, **kwargs: Any) -> None:
        for derived in ("layer_types", "number_of_conv_states"):
            kwargs.pop(derived, None)
        if self.rope_parameters is None:
            self.rope_parameters = {"rope_type": "default", "rope_theta": self.rope_theta}
        if self.sliding_window is None:
            share = int(self.max_position_embeddings * self.short_window_frac)
            self.sliding_window = -(-share // WINDOW_MULTIPLE) * WINDOW_MULTIPLE
        self.number_of_conv_states = CACHED_STATES
        super().__post_init__(**kwargs)
        check(self)

    @property
    def layer_types(self) -> list[str]:
        """What each layer caches, by the names of transformers."""
        return [self._layer_type(index) for index in range(self.num_hidden_layers)]

    @property
    def letters(self) -> str:
        """The pattern over the whole depth."""
        return expand_pattern(self.block_pattern, self.num_hidden_layers)

    @property
    def attention_layers(self) -> list[int]:
        """Indices of the A layers."""
        return [index for index, letter in enumerate(self.letters) if letter == "A"]

    @property
    def short_layers(self) -> list[int]:
        """Indices of the attention layers with the short window."""
        layers = self.attention_layers
        letters = (self.window_pattern * len(layers))[: len(layers) - 1]
        return [index for index, letter in zip(layers, letters, strict=False) if letter == "S"]

    @property
    def sparse_layers(self) -> list[int]:
        """Indices of the attention layers with sparse attention."""
        if not self.dsa_enabled:
            return []
        return [index for index in self.attention_layers if index >= self.dsa_start_layer]

    @property
    def engram_at(self) -> list[int]:
        """Indices of the layers with an Engram branch."""
        if not self.engram_enabled:
            return []
        return self.attention_layers if self.engram_layers is None else self.engram_layers

    @property
    def ngram_orders(self) -> list[int]:
        """`engram_ngram_orders` as numbers."""
        return [int(order) for order in self.engram_ngram_orders.split(",")]

    def has_experts(self, layer_idx: int) -> bool:
        """Whether the layer's feed-forward is a mixture of experts."""
        if self.letters[layer_idx] == "E":
            return True
        every = self.moe_layer_frequency
        return bool(every) and layer_idx % every == every - 1

    def _layer_type(self, layer_idx: int) -> str:
        letter = self.letters[layer_idx]
        if letter == "E":
            return "moe"
        if letter in "MR":
            return "linear_attention"
        short = layer_idx in self.short_layers
        if layer_idx in self.engram_at:
            return "hybrid_sliding" if short else "hybrid"
        if layer_idx in self.sparse_layers and self.dsa_variant == "token":
            return "indexed_attention"
        return "sliding_attention" if short else "full_attention"
