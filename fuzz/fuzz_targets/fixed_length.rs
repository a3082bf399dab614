//! Settings and input for the codec of this name; see `support` for what must hold.
#![no_main]

mod support;

libfuzzer_sys::fuzz_target!(|data: &[u8]| support::run(data, support::fixed_length));
