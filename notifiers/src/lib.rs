//! Notifier lists and prioritised state-change handlers.
