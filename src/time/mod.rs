//! Timers. Nothing here reads a clock: the time is an argument.

pub(crate) mod long_turns;
pub(crate) mod wheel;

#[cfg(test)]
mod tests;
