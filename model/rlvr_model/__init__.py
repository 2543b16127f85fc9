"""The hybrid causal language model as a normal Hugging Face model: importing this makes the Auto classes know it."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from rlvr_model.configuration import HybridConfig
from rlvr_model.experts import unstack_experts, update_router_biases
from rlvr_model.modeling import HybridForCausalLM, HybridModel

__all__ = ["HybridConfig", "HybridForCausalLM", "HybridModel", "unstack_experts", "update_router_biases"]

AutoConfig.register(HybridConfig.model_type, HybridConfig)
AutoModel.register(HybridConfig, HybridModel)
AutoModelForCausalLM.register(HybridConfig, HybridForCausalLM)
