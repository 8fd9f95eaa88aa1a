//! What each channel does at its far side: one module per channel.
