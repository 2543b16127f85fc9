"""The former address of `rlvr_cpp.reward.verifiers`, which tells the new one for one release."""

raise ImportError("rlvr_cpp.adapters.verifiers has moved: it is rlvr_cpp.reward.verifiers now")
