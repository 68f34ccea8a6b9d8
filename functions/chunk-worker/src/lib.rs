//! The chunk-worker function.
