//! Any octets as the strings of a configuration: what is written reads back as the same statements.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Err(error) = bindy_named_conf::round_trip(octets) {
        panic!("{error}");
    }
});
