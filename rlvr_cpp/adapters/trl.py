"""The former address of `rlvr_cpp.reward.trl`, which tells the new one for one release."""

raise ImportError("rlvr_cpp.adapters.trl has moved: it is rlvr_cpp.reward.trl now")
