"""The former address of `rlvr_cpp.reward.verl`, which tells the new one for one release."""

raise ImportError("rlvr_cpp.adapters.verl has moved: it is rlvr_cpp.reward.verl now")
