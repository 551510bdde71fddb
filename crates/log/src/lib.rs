//! Segmented log, promise and checkpoint stores of one storage node.
