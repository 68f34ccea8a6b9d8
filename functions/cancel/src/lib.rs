//! The cancel function.
